/** Evidence of the original's newer line, verified as a whole: collateral is signed with the keys of its public test seeds. */
import {
  type Attestation,
  decodeAttestation,
  encodeAttestation,
  encodeAttestationForAll,
  type PlatformOptions,
  replaceRoot,
  stripForCertificate,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { decodePem, fromHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { readCollateral, staticSource } from '../collateral/static-source.ts';
import type { Report } from '../report.ts';
import { verify } from '../verify.ts';
import { baseCollateral } from './forged.ts';
import { mockKeys } from './mock-keys.ts';
import { sealCollateral, tdxDraft } from './tdx-forge.ts';

const FOLDER = 'interop-original';
/** A time within the dates of the mock collateral. */
const NOW = 1781524800;
/** Of the machine's quotes and collateral. */
const SEED = new Uint8Array(32).fill(0xab);

function reportOf(
  evidence: Uint8Array,
  rootPem: string,
  seed: Uint8Array,
  platform: PlatformOptions = {},
): Promise<Report> {
  const draft = tdxDraft(mockKeys(seed));
  // The platform as the original's mock generator describes it.
  const { tcb_info, qe_identity } = baseCollateral('tdx-library');
  draft.tcbInfo = tcb_info;
  draft.qeIdentity = qe_identity;
  const collateral = sealCollateral(draft);
  return verify(evidence, {
    roots: replaceRoot(vendorRoots(), 'tdx', decodePem(rootPem, 'CERTIFICATE')),
    collateral: staticSource(readCollateral([collateral])),
    now: NOW,
    platform,
  });
}

describeWithFixtures('a guest of the newer line', `${FOLDER}/gpu-policy-hash/attestation.v0.bin`, () => {
  const evidence = fixture(`${FOLDER}/gpu-policy-hash/attestation.v0.bin`);
  const root = fixtureText(`${FOLDER}/gpu-policy-hash/tdx-root-ca.pem`);

  it('is accepted as a key service does, with the identities that its events and files name', async () => {
    const report = await reportOf(evidence, root, SEED, { tdxBootEventReplay: false });
    expect(report.reason).toBeUndefined();
    expect(report).toMatchObject({ isValid: true, mode: 'dstack-tdx', simulated: true });
    const names = decodeAttestation(evidence).runtimeEvents.map(({ event }) => event);
    expect(names).toContain('gpu-policy-hash');
    const { app_id } = fixtureJson<{ app_id: string }>(
      `${FOLDER}/gpu-policy-hash/host-shared/.instance_info`,
    );
    expect(report.appInfo).toMatchObject({
      app_id,
      compose_hash: 'fe761219bec0400404f1a04f3831cca4f01e591139a6e593c5d9fbf101b442e4',
      instance_id: 'bd1d006a95a9d415ad5c090f2a9719ac62f4b64e',
      init_script_hashes: [],
    });
  });

  it('is refused by a verifier that holds its boot log to the registers: the log is of another machine', async () => {
    const report = await reportOf(evidence, root, SEED);
    expect(report.checks.at(-1)).toMatchObject({ id: 'tdx.rtmr0', ok: false });
  });
});

describeWithFixtures('events of version 2', `${FOLDER}/v2-events/evidence-v2events.json`, () => {
  const recorded = fixtureJson<{ q: { event_log: string }; at: { attestation: string } }>(
    `${FOLDER}/v2-events/evidence-v2events.json`,
  );
  const attestation = decodeAttestation(fromHex(recorded.at.attestation));
  const runtimeLog = ({ quote }: Attestation) =>
    'eventLog' in quote ? quote.eventLog.filter(({ imr }) => imr === 3) : [];

  it('keep digest and preimage where others are stripped', () => {
    const stripped = runtimeLog(stripForCertificate(attestation));
    expect(stripped).toHaveLength(attestation.runtimeEvents.length);
    expect(stripped).toEqual(runtimeLog(attestation));
    for (const event of stripped) {
      expect(event).toMatchObject({ version: 2, preimage: expect.stringMatching(/^7b22/) });
      expect(event.digest).toHaveLength(48);
    }
  });

  it('travel in certificates and requests as version 1 of the encoding, and others as version 0', () => {
    const stripped = stripForCertificate(attestation);
    expect(() => encodeAttestation(stripped)).toThrow(/version 2/);
    expect(decodeAttestation(encodeAttestationForAll(stripped))).toEqual(stripped);
    const older = decodeAttestation(fixture(`${FOLDER}/gpu-policy-hash/attestation.v0.bin`));
    expect(encodeAttestationForAll(older)[0]).toBe(0);
  });

  it('are verified by what their digests say', async () => {
    const report = await verify(utf8(recorded.at.attestation), {
      roots: vendorRoots(),
      collateral: staticSource({ dcap: [], tpm: [] }),
      now: NOW,
    });
    // Under a test root that nobody configured: refused for that alone.
    expect(report.checks.at(-1)).toMatchObject({ id: 'tdx.pck-path', ok: false });
  });
});
