import { type Report, timeOfVerdict } from '@dstack-cloud/verifier';
import type { Link } from './link.ts';

/** Checks that are about something else than the hardware, by the beginning of their ids. */
const AREAS: readonly (readonly [string, string])[] = [
  ['image.', 'OS image'],
  ['app.compose', 'Compose file'],
  ['app.', 'Boot events'],
  ['evidence.', 'Evidence'],
  ['config.', 'Evidence'],
];

/** What the verifier's report says, link by link from the hardware upwards. */
export function evidenceLinks(report: Report, source: string, pccsUrl: string): Link[] {
  const links: Link[] = [
    { name: 'Evidence', ok: true, why: `${report.mode} from ${source}` },
    { name: 'Time', ok: report.verifiedNow ? true : null, why: timeOfVerdict(report) },
  ];
  if (!report.isValid) {
    const failed = failedLink(report, pccsUrl);
    return failed.name === 'Evidence' ? [failed] : [...links, failed];
  }
  const root = report.simulated ? 'a SIMULATED root from the configuration' : "the vendor's root";
  links.push(
    { name: 'Hardware', ok: true, why: `${report.checks.length} checks passed, under ${root}` },
    freshness(report),
    patchLevel(report),
  );
  const { appInfo, appCompose } = report;
  if (appInfo !== undefined && appInfo.os_image_hash !== '')
    links.push({ name: 'OS image', ok: true, why: `The measured image is ${appInfo.os_image_hash}` });
  if (appInfo !== undefined && appCompose !== undefined)
    links.push({ name: 'Compose file', ok: true, why: `The one shown is measured: ${appInfo.compose_hash}` });
  return links;
}

function failedLink(report: Report, pccsUrl: string): Link {
  const failed = report.checks.find(({ ok }) => !ok);
  const id = failed?.id ?? '';
  const name = AREAS.find(([start]) => id.startsWith(start))?.[1] ?? 'Hardware';
  const { expected, found } = failed ?? {};
  return {
    name,
    ok: false,
    why: `${id}: ${report.reason}${remark(report.code, pccsUrl)}`,
    ...(expected === undefined ? {} : { expected }),
    ...(found === undefined || found === report.reason ? {} : { found }),
  };
}

/** What the user can look at when the fault may be on this side. */
function remark(code: Report['code'], pccsUrl: string): string {
  if (code === 'collateral-unavailable') return ` (collateral service ${pccsUrl})`;
  if (code === 'chain-invalid')
    return "; a simulated TEE has a root of its own, trusted only when the configuration's attestation.root_ca.tdx names it";
  return '';
}

function freshness({ fresh }: Report): Link {
  return fresh
    ? { name: 'Freshness', ok: true, why: 'Made for a nonce of ours' }
    : { name: 'Freshness', ok: null, why: 'A file carries no nonce of ours: it may be a recording' };
}

function patchLevel({ tcbPolicy, tcbStatus }: Report): Link {
  const why = tcbPolicy.ok
    ? `TCB status ${tcbStatus || '(none on this platform)'}`
    : tcbPolicy.reasons.join('; ');
  return { name: 'Patch level', ok: tcbPolicy.ok, why };
}
