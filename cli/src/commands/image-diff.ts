import { type DifferenceKind, diffImages, type ImageDifference } from '@dstack-cloud/os-image';
import type { Context } from '../context.ts';
import { findImage } from '../image/find-image.ts';

const TITLES: Readonly<Record<DifferenceKind, string>> = {
  package: 'Packages',
  version: 'Version',
  'command-line': 'Command line (measured)',
  section: 'Sections of uki.efi',
  file: 'Files',
};

/** `image diff`: what makes two images differ; exit code 1 when something does, as diff has it. */
export async function run(context: Context, args: readonly string[]): Promise<number> {
  const [before, after] = [await findImage(context, args[0]!), await findImage(context, args[1]!)];
  const differences = await diffImages(before, after);
  context.result(differences.map(asJson));
  if (differences.length === 0) context.print('The images are equal, byte for byte');
  for (const [kind, title] of Object.entries(TITLES) as [DifferenceKind, string][]) {
    const group = differences.filter((one) => one.kind === kind);
    if (group.length === 0) continue;
    context.print(kind === 'package' ? `${title}: ${group.length} differ${total(group)}` : title);
    for (const one of group) context.print(`  ${line(one)}`);
  }
  if (differences.length > 0)
    context.print(
      before.digest === after.digest
        ? 'os-image-hash is the same: what differs is not among the files that decide'
        : `os-image-hash: ${before.digest} -> ${after.digest}`,
    );
  return differences.length === 0 ? 0 : 1;
}

function asJson({ kind, name, before, after, note }: ImageDifference): object {
  return {
    what: kind === 'version' ? kind : `${kind === 'command-line' ? 'command line' : kind} ${name}`,
    kind,
    name,
    before: before?.value ?? null,
    after: after?.value ?? null,
    before_bytes: before?.bytes ?? null,
    after_bytes: after?.bytes ?? null,
    note: note ?? null,
  };
}

function line({ kind, name, before, after, note }: ImageDifference): string {
  const isHash = kind === 'section' || kind === 'file';
  const shown = (value: string | undefined): string =>
    value === undefined ? '(absent)' : isHash ? value.slice(0, 16) : value;
  const values =
    before?.value === after?.value
      ? shown(before?.value)
      : `${shown(before?.value)} -> ${shown(after?.value)}`;
  return [`${name}: ${values}`, sizes(before?.bytes, after?.bytes), note && `(${note})`]
    .filter(Boolean)
    .join('  ');
}

/** A side that is absent has no bytes. */
function sizes(before: number | undefined, after: number | undefined): string {
  if (before === undefined && after === undefined) return '';
  const change = (after ?? 0) - (before ?? 0);
  if (change === 0) return bytes(after ?? 0);
  return `${bytes(before ?? 0)} -> ${bytes(after ?? 0)} (${signed(change)})`;
}

/** How much the packages that differ add to the root file system, before it is compressed. */
function total(group: readonly ImageDifference[]): string {
  const sum = group.reduce((all, { before, after }) => all + (after?.bytes ?? 0) - (before?.bytes ?? 0), 0);
  return sum === 0 ? '' : `, ${signed(sum)} before compression`;
}

function signed(change: number): string {
  return `${change < 0 ? '-' : '+'}${bytes(Math.abs(change))}`;
}

function bytes(count: number): string {
  if (count < 1000) return `${count} B`;
  const units = ['kB', 'MB', 'GB'];
  let [value, unit] = [count / 1000, 0];
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}
