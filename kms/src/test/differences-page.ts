/** The wanted differences as a page for people. */
import { NOT_REPLAYED } from './replay-plan.ts';
import {
  type Difference,
  differenceIds,
  differenceOf,
  firstRecordingDifferences,
} from './wanted-differences.ts';

type Row = { readonly id: string; readonly difference: Difference };

export function differencesPage(): string {
  const rows: Row[] = [
    ...differenceIds().map((id) => {
      const [file, name] = id.includes('/') ? (id.split('/') as [string, string]) : ['', id];
      return { id, difference: differenceOf(name, file)! };
    }),
    ...Object.entries(firstRecordingDifferences).map(([id, difference]) => ({ id, difference })),
  ];
  const isOther = ({ difference: { status, type, asks } }: Row) =>
    status !== undefined || type !== undefined || asks !== undefined;
  return [
    '# Recorded exchanges that our KMS answers otherwise',
    '',
    'What was recorded with an original KMS is replayed against ours, from the same key directory and client. Where the',
    'answer differs, it is one of these, and the test asserts the difference; all others are equal, but for times,',
    'signatures over them, and certificates made in the answer. In brackets, sections of the specification. This page is',
    'made from the list that the tests use: after a change,',
    '`npx vitest run kms/src/replay/differences-page.test.ts -u` writes it.',
    '',
    '## Another outcome',
    '',
    ...table(rows.filter(isOther)),
    '',
    '## The same status, another text',
    '',
    ...table(rows.filter((row) => !isOther(row))),
    '',
    '## Not replayed',
    '',
    ...Object.entries(NOT_REPLAYED).map(([id, reason]) => `- \`${id}\`: ${reason}`),
    '',
  ].join('\n');
}

function table(rows: readonly Row[]): string[] {
  const byReason = new Map<string, Row[]>();
  for (const row of rows) {
    const key = `${outcomeOf(row.difference)} | ${row.difference.reason}`;
    byReason.set(key, [...(byReason.get(key) ?? []), row]);
  }
  const lines = [...byReason].map(
    ([key, group]) => `| ${key} | ${group.map(({ id }) => `\`${id}\``).join(', ')} |`,
  );
  return ['| Ours | Because | Exchanges |', '| --- | --- | --- |', ...lines];
}

function outcomeOf({ status, type, asks }: Difference): string {
  if (status === 200) return 'answers';
  if (status !== undefined) return 'refuses';
  if (type !== undefined) return `answers with \`${type}\``;
  if (asks !== undefined) return `asks the policy with another ${asks.join(', ')}`;
  return 'other text';
}
