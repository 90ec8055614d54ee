import { toHex } from '@dstack-cloud/encoding';
import type { Report } from '../report.ts';

const MAX_VALUE = 100;

/** A report for people: the verdict first, then every check, then what was found. */
export function reportText(path: string, report: Report, colour: boolean): string {
  const paint = (code: number, text: string): string => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const verdict = report.isValid
    ? paint(32, 'genuine')
    : report.cannotJudge
      ? paint(33, 'cannot judge')
      : paint(31, 'refused');
  const lines = [
    `${path}: ${verdict}${report.simulated ? paint(33, ' (simulated: not a vendor root)') : ''}`,
  ];
  if (report.reason !== undefined) lines.push(`  why           ${report.reason} [${report.code}]`);
  lines.push(`  form          ${report.form}, mode ${report.mode}`);
  for (const check of report.checks) {
    lines.push(`  ${check.ok ? paint(32, 'ok') : paint(31, 'no')} ${check.id}  (${check.reference})`);
    if (!check.ok && check.expected !== undefined) lines.push(`       expected ${short(check.expected)}`);
    if (!check.ok && check.found !== undefined) lines.push(`       found    ${short(check.found)}`);
  }
  if (report.isValid) lines.push(...goodLines(report, paint));
  return `${lines.join('\n')}\n`;
}

function goodLines(report: Report, paint: (code: number, text: string) => string): string[] {
  const advisories = report.advisoryIds.length > 0 ? `, ${report.advisoryIds.join(', ')}` : '';
  const lines = [
    `  tcb status    ${report.tcbStatus || 'none on this platform'}${advisories}`,
    `  in force      ${time(report.validFrom)} to ${time(report.validUntil)}`,
    ...(report.reportData ? [`  report data   ${toHex(report.reportData)}`] : []),
  ];
  for (const [name, value] of Object.entries(report.appInfo ?? {})) {
    if (typeof value === 'string' && value !== '') lines.push(`  ${name.padEnd(14)}${short(value)}`);
  }
  const { ok, reasons } = report.policy;
  lines.push(`  policy        ${ok ? paint(32, 'accepted') : paint(31, 'refused')}`);
  return [...lines, ...reasons.map((reason) => `                ${reason}`)];
}

function time(seconds: number | undefined): string {
  return seconds === undefined ? 'always' : new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}

function short(value: string): string {
  return value.length <= MAX_VALUE ? value : `${value.slice(0, MAX_VALUE)}…`;
}
