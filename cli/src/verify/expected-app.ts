import { utf8Text } from '@dstack-cloud/encoding';
import type { Report } from '@dstack-cloud/verifier';
import type { Link } from './link.ts';

const LABELS: Readonly<Record<string, string>> = {
  compose_hash: 'Compose hash',
  app_id: 'App id',
  os_image_hash: 'OS image hash',
};

/** What is wanted of an application, and who says so. */
export interface ExpectedApp {
  /** By names of the verifier's expectations. */
  readonly values: Readonly<Record<string, string>>;
  /** Names whose values were computed from the project's files as they are now. */
  readonly fromFiles: readonly string[];
  /** `app-compose.json` as those files make it. */
  readonly appCompose?: Uint8Array;
  /** What was deployed last, by the same names. */
  readonly deployed?: Readonly<Record<string, string>>;
}

/** What was compared, one link for each; one that says so when nothing was. */
export function expectationLinks(report: Report, wanted: ExpectedApp): Link[] {
  if (!report.isValid) return [];
  if (report.comparisons.length === 0)
    return [
      {
        name: 'Expectations',
        ok: null,
        why: 'Nothing was compared: say what is wanted with --compose-hash, --app-id, --os-image-hash or --expect',
      },
    ];
  return report.comparisons.map(({ name, ok, expected, found }) => {
    const isOfFiles = wanted.fromFiles.includes(name);
    const link = { name: LABELS[name] ?? name, ok };
    if (ok) return { ...link, why: isOfFiles ? `That of the files in this project: ${expected}` : expected };
    return {
      ...link,
      why: isOfFiles
        ? `Not that of the files in this project${inWhat(name, report, wanted)}`
        : 'Not as expected',
      expected,
      found: found ?? 'nothing of this name',
    };
  });
}

/** Whether the machine runs what was deployed last; files that changed since then are another matter. */
export function deployedLinks(report: Report, { values, deployed = {} }: ExpectedApp): Link[] {
  const measured = report.appInfo as Readonly<Record<string, unknown>> | undefined;
  if (measured === undefined) return [];
  const differing = Object.entries(deployed).filter(
    ([name, value]) => value !== '' && value !== measured[name],
  );
  if (Object.keys(deployed).length === 0) return [];
  const name = 'Deployment';
  if (differing.length === 0) return [{ name, ok: true, why: 'The machine is what was deployed last' }];
  // What is measured and wanted now is right, whatever the record of the last deployment says.
  const isWanted = differing.every(([key]) => measured[key] === values[key]);
  const names = differing.map(([key]) => LABELS[key] ?? key).join(', ');
  const [[key, value]] = differing as [[string, string]];
  return [
    {
      name,
      ok: isWanted ? null : false,
      why: `The machine is not what was deployed last: ${names}`,
      expected: value,
      found: String(measured[key]),
    },
  ];
}

/** Which members of `app-compose.json` differ, when the machine shows its own. */
function inWhat(name: string, { appCompose }: Report, wanted: ExpectedApp): string {
  if (name !== 'compose_hash') return '';
  const next = '; dstack-cloud deploy brings it there';
  if (appCompose === undefined || wanted.appCompose === undefined) return next;
  const shown = members(appCompose);
  const ours = members(utf8Text(wanted.appCompose));
  const differing = [...new Set([...shown.keys(), ...ours.keys()])].filter(
    (member) => shown.get(member) !== ours.get(member),
  );
  return differing.length === 0 ? `, but for their form${next}` : ` (${differing.join(', ')})${next}`;
}

function members(text: string): Map<string, string> {
  try {
    const json: unknown = JSON.parse(text);
    return new Map(Object.entries(json as object).map(([name, value]) => [name, JSON.stringify(value)]));
  } catch {
    return new Map([['app-compose.json', text]]);
  }
}
