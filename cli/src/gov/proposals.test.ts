/** Files that pass for proposals: each is refused at once, with its name, and none is written over. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Proposal, safeTx, writeProposal } from '@dstack-cloud/governance';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readProposalFile } from './proposals.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'proposals-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const to = `0x${'12'.repeat(20)}` as const;
const proposal: Proposal = {
  ...{ chainId: 31_337, safe: to, signatures: [] },
  tx: safeTx({ to, value: 0n, data: '0x1234' }, 7n),
};
const whole = writeProposal(proposal, ['a call']);
const path = (name: string): string => join(directory, name);
const pipe = (): void => void execFileSync('mkfifo', [path('file')]);
const huge = (name: string): void => {
  writeFileSync(path(name), '{');
  truncateSync(path(name), 2 ** 30);
};

test.each<[string, () => void, string]>([
  ['a pipe that nobody writes to', pipe, 'is not a regular file'],
  ['a device', () => symlinkSync('/dev/zero', path('file')), 'is not a regular file'],
  ['a folder', () => symlinkSync('.', path('file')), 'is not a regular file'],
  ['a gigabyte', () => huge('file'), 'is too large'],
  [
    'a link to a gigabyte',
    () => {
      huge('large');
      symlinkSync('large', path('file'));
    },
    'is too large',
  ],
  ['a link to itself', () => symlinkSync('file', path('file')), 'cannot be opened|is not a regular file'],
  ['nothing', () => writeFileSync(path('file'), ''), 'is no JSON'],
  ['a half of one', () => writeFileSync(path('file'), whole.slice(0, whole.length / 2)), 'is no JSON'],
  ['lists in lists', () => writeFileSync(path('file'), '['.repeat(500_000)), 'is no JSON'],
])('%s is no proposal', async (_, make, why) => {
  make();
  await expect(readProposalFile({ directory }, 'file')).rejects.toThrow(
    expect.objectContaining({ message: expect.stringMatching(`${path('file')}.*(${why})`) }),
  );
});

test('each proposal that is cut short is refused, and the whole one is read', async () => {
  writeFileSync(path('file'), whole);
  expect((await readProposalFile({ directory }, 'file')).proposal).toEqual(proposal);
  for (let length = 0; length < whole.trimEnd().length; length += 7) {
    writeFileSync(path('file'), whole.slice(0, length));
    await expect(readProposalFile({ directory }, 'file')).rejects.toMatchObject({ code: 'bad-input' });
  }
});
