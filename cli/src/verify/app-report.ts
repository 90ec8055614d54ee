import { fromHex, toHex } from '@dstack-cloud/encoding';
import { type Report, reportToJson, verdictText } from '@dstack-cloud/verifier';
import type { Link } from './link.ts';

/** The verifier's report on an application, and what else is known about it. */
export interface AppReport {
  readonly report: Report;
  readonly source: string;
  readonly links: readonly Link[];
  /** Whether no link is broken. */
  readonly isValid: boolean;
}

/** One sentence: whether it holds, and what it is about. */
export function appVerdict({ report, links, isValid }: AppReport): string {
  const text = verdictText(report);
  if (!isValid) {
    const broken = links.filter(({ ok }) => ok === false).map(({ name }) => name);
    return `NOT VALID (${broken.join(', ')}): ${text}`;
  }
  const nothing = report.comparisons.length === 0;
  const verdict = nothing ? `${text[0]!.toUpperCase()}${text.slice(1)}` : `VALID: ${text}`;
  return report.simulated ? `${verdict}; a test root proves nothing about real hardware` : verdict;
}

/** The JSON of `dstack-cloud verify --json`: that of `dstack-verifier`, with the links. */
export function appReportJson(app: AppReport): Record<string, unknown> {
  const { report, source, links, isValid } = app;
  return {
    ...reportToJson(report, toHex),
    is_valid: isValid,
    verdict_text: appVerdict(app),
    source,
    links,
    identity: identityOf(report),
  };
}

/** Who the application is, for people. */
export function identityOf({ appInfo, tcbStatus }: Report): Record<string, string> | null {
  if (appInfo === undefined) return null;
  const { init_script_hashes: _, key_provider_info: provider, ...hashes } = appInfo;
  return {
    ...hashes,
    tcb_status: tcbStatus ?? '',
    key_provider: new TextDecoder().decode(fromHex(provider)),
  };
}
