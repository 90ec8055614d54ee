/** Whoever reads a contract in an explorer or a wallet finds out what each function, event and error means. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { contractsDirectory } from '../artifact.ts';

const directory = join(contractsDirectory, 'contracts');

/** Declarations that end up in an ABI, with the comment above each. */
function declarations(source: string): { name: string; comment: string }[] {
  const pattern = /((?:^ *\/\/\/.*\n)*)^ {4}(?:(function|event|error) (\w+)|mapping\(.*\) public (\w+);)/gm;
  return [...source.matchAll(pattern)]
    .filter(([, comment, kind], index, all) => {
      // A comment may speak of what is public, too.
      const from = all[index]!.index + comment!.length;
      const head = source.slice(from, source.indexOf(kind === 'function' ? '{' : ';', from));
      return kind !== 'function' || /\b(external|public)\b/.test(head) || /^\s*interface /m.test(source);
    })
    .map(([, comment, , name, variable]) => ({ name: (name ?? variable)!, comment: comment! }));
}

test.each(readdirSync(directory))('everything public of %s is described', (file) => {
  const found = declarations(readFileSync(join(directory, file), 'utf8'));
  const bare = found.filter(({ comment }) => !/@notice|@inheritdoc/.test(comment)).map(({ name }) => name);
  expect(bare).toEqual([]);
});

test('the descriptions are looked for where they are', () => {
  const source = readFileSync(join(directory, 'DstackKms.sol'), 'utf8');
  expect(declarations(source).length).toBeGreaterThan(50);
});
