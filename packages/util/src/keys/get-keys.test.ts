import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { printableReport } from '../errors.ts';
import { thisMachine } from '../machine.ts';
import { getKeys } from './get-keys.ts';

const directory = mkdtempSync(join(tmpdir(), 'get-keys-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** What the user reads; nothing answers at any of the places. */
async function told(kmsUrl: string, rootCa?: string): Promise<string> {
  const lines: string[] = [];
  const machine = thisMachine({ DSTACK_NSM: `unix:${join(directory, 'nsm.sock')}` });
  const error = await getKeys({ kmsUrl, rootCa, machine, env: {}, say: (line) => lines.push(line) }).catch(
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(Error);
  return [...lines, printableReport(error)].join('\n');
}

describe('a KMS URL', () => {
  test.each([
    'https://user:s3cret@kms.example:12001',
    'https://s3cret@kms.example',
    'http://user:s3cret@kms.example',
    'user:s3cret@kms.example',
    'https://user:s3cret@[kms',
    'https://user:s3cret@a@kms.example',
  ])('%s is refused, and its password is told to nobody', async (url) => {
    const text = await told(url);
    expect(text).toMatch(/^Error: KMS URL "….*" cannot be used: expected https:\/\/HOST:PORT/);
    expect(text).not.toContain('s3cret');
  });

  test.each([
    'http://kms.example',
    'kms.example:12001',
    'https://kms.example/?x=1',
    'https://kms.example/#x',
    '',
  ])('%j is refused', async (url) => expect(await told(url)).toMatch(/^Error: KMS URL .* cannot be used/));
});

test('a missing root is found before anybody is asked', async () => {
  expect(await told('https://127.0.0.1:1', join(directory, 'root.pem'))).toMatch(
    /^Error: failed to read root CA/,
  );
});

test('a reason is given once', async () => {
  const text = await told('https://127.0.0.1:1');
  expect(text.match(/ECONNREFUSED/g)).toHaveLength(1);
});
