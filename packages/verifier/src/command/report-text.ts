import { printable, toHex } from '@dstack-cloud/encoding';
import type { Report } from '../report.ts';
import { timeOfVerdict, utcTime, type Verdict, verdictOf, verdictText } from '../verdict.ts';

const MAX_VALUE = 100;
/** Colours of ECMA-48, for a terminal. */
const COLOURS = { red: 31, green: 32, yellow: 33 } as const;

const SHADES: Readonly<Record<Verdict, keyof typeof COLOURS>> = {
  accepted: 'green',
  'nothing-compared': 'yellow',
  'not-accepted': 'red',
  refused: 'red',
  'cannot-judge': 'yellow',
};

type Coloured = readonly [word: string, colour: keyof typeof COLOURS];
/** A line in parts, some of them in a colour. */
type Line = readonly (string | Coloured)[];

/** A report for people: the verdict first, then every check, then what was found. */
export function reportText(path: string, report: Report, colour: boolean): string {
  const lines: Line[] = [verdictLine(path, report)];
  if (report.reason !== undefined) lines.push([`  why           ${report.reason} [${report.code}]`]);
  lines.push(['  time          ', ...timeParts(report)]);
  lines.push([`  form          ${report.form}, mode ${report.mode}`]);
  for (const check of report.checks) {
    lines.push(['  ', check.ok ? ['ok', 'green'] : ['no', 'red'], ` ${check.id}  (${check.reference})`]);
    if (!check.ok && check.expected !== undefined) lines.push([`       expected ${short(check.expected)}`]);
    if (!check.ok && check.found !== undefined) lines.push([`       found    ${short(check.found)}`]);
  }
  if (report.isValid) lines.push(...validReportLines(report));
  return lines.map((line) => `${shown(line, colour)}\n`).join('');
}

/** What the evidence says is made visible before anything of ours is added to it. */
function shown(line: Line, colour: boolean): string {
  return line
    .map((part) => {
      if (typeof part === 'string') return printable(part);
      const [word, shade] = part;
      return colour ? `\u001b[${COLOURS[shade]}m${word}\u001b[0m` : word;
    })
    .join('');
}

function verdictLine(path: string, report: Report): Line {
  const verdict = verdictOf(report);
  const simulated: Coloured = ['simulated: not a vendor root', 'yellow'];
  return [
    `${path}: `,
    [verdictText(report), SHADES[verdict]],
    ...(report.simulated ? [' (', simulated, ')'] : []),
  ];
}

function validReportLines(report: Report): Line[] {
  const advisories = report.advisoryIds.length > 0 ? `, ${report.advisoryIds.join(', ')}` : '';
  const lines: Line[] = [
    [`  tcb status    ${report.tcbStatus || 'none on this platform'}${advisories}`],
    [`  in force      ${time(report.validFrom)} to ${time(report.validUntil)}`],
    [`  freshness     ${report.fresh ? 'made for a nonce of ours' : 'not proven: it may be a recording'}`],
  ];
  if (report.reportData) lines.push([`  report data   ${toHex(report.reportData)}`]);
  for (const [name, value] of Object.entries(report.appInfo ?? {})) {
    if (typeof value === 'string' && value !== '') lines.push([`  ${name.padEnd(14)}${short(value)}`]);
  }
  for (const { name, ok, expected, found } of report.comparisons) {
    lines.push([`  expected      ${name} `, ok ? ['as expected', 'green'] : ['differs', 'red']]);
    if (!ok)
      lines.push(
        [`                expected ${expected}`],
        [`                found    ${found ?? 'nothing of this name'}`],
      );
  }
  const { ok, reasons } = report.policy;
  lines.push(['  policy        ', ok ? ['accepted', 'green'] : ['refused', 'red']]);
  return [...lines, ...reasons.map((reason): Line => [`                ${reason}`])];
}

function timeParts(report: Report): Line {
  const text = timeOfVerdict(report);
  return report.verifiedNow ? [text] : [[text, 'yellow']];
}

function time(seconds: number | undefined): string {
  return seconds === undefined ? 'always' : utcTime(seconds);
}

function short(value: string): string {
  return value.length <= MAX_VALUE ? value : `${value.slice(0, MAX_VALUE)}…`;
}
