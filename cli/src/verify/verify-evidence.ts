import { composeHash } from '@dstack-cloud/app';
import {
  type AttestationErrorCode,
  type BootInfo,
  bootInfo,
  type Check,
  type Inspection,
  inspectAttestation,
  inspectOsImage,
  judgeTcb,
  reportData,
  type VerifiedAttestation,
} from '@dstack-cloud/attestation';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import type { Evidence } from './evidence.ts';
import { compare, type Link } from './link.ts';
import type { Trust } from './trust.ts';

/** Everything that `verify` found out. */
export interface Report {
  readonly is_valid: boolean;
  readonly simulated: boolean;
  readonly verdict: string;
  readonly source: string;
  readonly mode: string;
  readonly links: readonly Link[];
  readonly checks: readonly Check[];
  readonly identity: Readonly<Record<string, string>> | null;
}

/** What the caller knows about the app beforehand; each is compared when given. */
export interface Expectation {
  readonly composeHash?: string | undefined;
  readonly appId?: string | undefined;
}

/** Asks the chain about verified evidence; injected, so that this file needs no network. */
export type PolicyLinks = (info: BootInfo) => Promise<Link[]>;

/** Judges evidence link by link. A refusal is a report, not an error. */
export async function verifyEvidence(
  evidence: Evidence,
  trust: Trust,
  expectation: Expectation,
  now: number,
  policyLinks: PolicyLinks,
): Promise<Report> {
  const { attestation, nonce } = evidence;
  const links: Link[] = [
    { name: 'Evidence', ok: true, why: `${attestation.quote.mode} from ${evidence.source}` },
  ];
  const inspection = await inspectAttestation(attestation, {
    roots: trust.roots,
    collateral: trust.collateral,
    now,
    ...(nonce === undefined
      ? {}
      : { expectedReportData: reportData({ tag: 'dstack-public-attestation', content: nonce }) }),
  });
  links.push(...hardwareLinks(inspection, trust));
  const simulated = inspection.ok && inspection.verified.simulated;
  let identity: Report['identity'] = null;
  if (inspection.ok) {
    links.push(freshness(nonce));
    const { verified } = inspection;
    const tcb = judgeTcb(
      {
        mode: verified.mode,
        tcbStatus: verified.tcbStatus,
        advisoryIds: verified.advisoryIds,
        snp: verified.snp,
      },
      {},
      now,
    );
    links.push({
      name: 'Patch level',
      ok: tcb.ok,
      why: tcb.ok ? `TCB status ${verified.tcbStatus || '(none on this platform)'}` : tcb.reasons.join('; '),
    });
    const info = bootInfo(verified, { bootTime: false });
    identity = identityOf(info);
    links.push(
      await osImageLink(verified),
      ...appLinks(info, evidence, expectation),
      ...(await policyLinks(info)),
    );
  }
  const is_valid = links.every(({ ok }) => ok !== false);
  return {
    is_valid,
    simulated,
    verdict: verdict(is_valid, simulated),
    source: evidence.source,
    mode: attestation.quote.mode,
    links,
    checks: inspection.checks,
    identity,
  };
}

function verdict(valid: boolean, simulated: boolean): string {
  if (!valid) return 'NOT VALID';
  return simulated ? 'VALID, SIMULATED hardware (test root): proves nothing about a real machine' : 'VALID';
}

function hardwareLinks(inspection: Inspection, trust: Trust): Link[] {
  if (inspection.ok) {
    const { simulated } = inspection.verified;
    const root = simulated ? 'a SIMULATED root from the configuration' : "the vendor's root";
    return [
      { name: 'Hardware', ok: true, why: `${inspection.checks.length} checks passed, under ${root}` },
      { name: 'Event log', ok: true, why: 'Replays to the signed registers' },
    ];
  }
  const { error } = inspection;
  return [
    {
      name: 'Hardware',
      ok: false,
      why: `${error.check ?? error.code}: ${error.message}${remark(error.code, trust)}`,
      ...(error.expected === undefined ? {} : { expected: error.expected }),
      ...(error.found === undefined || error.found === error.message ? {} : { found: error.found }),
    },
  ];
}

/** What the user can look at when the fault may be on this side. */
function remark(code: AttestationErrorCode, trust: Trust): string {
  if (code === 'collateral-unavailable') return ` (collateral service ${trust.pccsUrl})`;
  if (code === 'chain-invalid')
    return "; a simulated TEE has a root of its own, trusted only when the configuration's attestation.root_ca.tdx names it";
  return '';
}

/** The registers that the hardware signed are recomputed from the image's own measurements. */
async function osImageLink(verified: VerifiedAttestation): Promise<Link> {
  const name = 'OS image';
  const image = await inspectOsImage(verified);
  if (image.ok) return { name, ok: true, why: `The measured image is ${toHex(image.osImageHash)}` };
  const { error } = image;
  return {
    name,
    ok: false,
    why: error.message,
    ...(error.expected === undefined ? {} : { expected: error.expected }),
    ...(error.found === undefined ? {} : { found: error.found }),
  };
}

function freshness(nonce: Uint8Array | undefined): Link {
  return nonce === undefined
    ? { name: 'Freshness', ok: null, why: 'A file carries no nonce of ours: it may be a recording' }
    : { name: 'Freshness', ok: true, why: `Our nonce ${toHex(nonce).slice(0, 16)}… is signed` };
}

function appLinks(info: BootInfo, evidence: Evidence, expectation: Expectation): Link[] {
  const measured = toHex(info.composeHash);
  const links: Link[] = [];
  if (evidence.appCompose !== undefined)
    links.push(
      compare('Compose file', 'The measured hash', toHex(composeHash(utf8(evidence.appCompose))), measured),
    );
  if (expectation.composeHash !== undefined)
    links.push(
      compare('Expected compose hash', 'The measured compose hash', expectation.composeHash, measured),
    );
  else
    links.push({
      name: 'Expected compose hash',
      ok: null,
      why: `Nobody said which is right; measured ${measured}`,
    });
  if (expectation.appId !== undefined)
    links.push(compare('App id', 'The measured app id', expectation.appId, toHex(info.appId)));
  return links;
}

function identityOf(info: BootInfo): Record<string, string> {
  return {
    app_id: toHex(info.appId),
    instance_id: toHex(info.instanceId),
    compose_hash: toHex(info.composeHash),
    os_image_hash: toHex(info.osImageHash),
    device_id: toHex(info.deviceId),
    mr_system: toHex(info.mrSystem),
    mr_aggregated: toHex(info.mrAggregated),
    tcb_status: info.tcbStatus,
    key_provider: new TextDecoder().decode(info.keyProviderInfo),
  };
}
