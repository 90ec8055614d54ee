import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import { x25519PublicKey } from '@dstack-cloud/keys';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { backupCommand, openShareCommand } from '../commands/backup-commands.ts';
import { commitKeyFiles } from '../key-directory/commit.ts';
import { issueRpcCertificate, keyFilesOf, keysFor } from '../key-directory/new-keys.ts';
import type { RunningKms } from '../start-kms.ts';
import { call } from '../test/ask.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';
import { backupShares, restoreKeys } from './backup.ts';
import { joinShares, splitSecret } from './shamir.ts';
import { openShare, readOpenedShare } from './share-file.ts';

let lab: Lab;
let kms: RunningKms;
beforeAll(async () => {
  lab = await openLab();
  kms = await lab.start();
});
afterAll(() => lab.close());

const custodians = (count: number) =>
  Array.from({ length: count }, () => {
    const secret = new Uint8Array(randomBytes(32));
    return { secret, publicKey: x25519PublicKey(secret) };
  });

describe('Shamir over GF(2^8)', () => {
  test('any threshold of shares gives the secret back', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 64 }),
        fc.integer({ min: 2, max: 6 }),
        fc.integer({ min: 0, max: 4 }),
        (secret, threshold, extra) => {
          const shares = splitSecret(secret, threshold, threshold + extra);
          expect(joinShares(shares.slice(-threshold))).toEqual(secret);
          expect(joinShares(shares)).toEqual(secret);
        },
      ),
    );
  });

  test('one share less says nothing: every byte is as likely', () => {
    const seen = new Set<number>();
    for (let i = 0; i < 4000; i++) seen.add(splitSecret(Uint8Array.of(7), 2, 2)[0]!.data[0]!);
    expect(seen.size).toBe(256);
  });

  test.each([
    [1, 3],
    [4, 3],
    [2, 256],
    [2.5, 3],
  ])('%i of %i is refused', (threshold, count) => {
    expect(() => splitSecret(Uint8Array.of(1), threshold, count)).toThrow('not possible');
  });
});

describe('loss and recovery', () => {
  test('3 of 5 custodians bring the KMS back; the same guest gets the same keys', async () => {
    const { config } = kms.kms;
    const out = join(lab.directory, 'shares');
    const people = custodians(5);
    const recipients = people.map(({ publicKey }) => toHex(publicKey));
    const said = await backupCommand(config, { threshold: 3, recipients, out, now: LAB_NOW });
    expect(said).toContain('3 of which restore');
    const client = lab.client(lab.guest());
    const before = await call(kms.main.port, 'GetAppKey', {}, { client });

    const opened: string[] = [];
    for (const index of [4, 1, 2]) {
      const identity = join(lab.directory, `custodian-${index}`);
      writeFileSync(identity, `${toHex(people[index]!.secret)}\n`, { mode: 0o600 });
      opened.push(await openShareCommand(join(out, `share-${index + 1}-of-5.json`), identity));
    }
    rmSync(config.core.cert_dir, { recursive: true });
    const shared = restoreKeys(opened.map(readOpenedShare));
    const keys = keysFor(shared, 'localhost', LAB_NOW);
    const directory = join(lab.directory, 'restored');
    await commitKeyFiles(directory, keyFilesOf(keys, await issueRpcCertificate(keys, LAB_NOW, undefined)));
    const restored = await lab.start({ directory });
    const after = await call(restored.main.port, 'GetAppKey', {}, { client });
    expect(after.json['k256_key']).toBe(before.json['k256_key']);
    expect(after.json['disk_crypt_key']).toBe(before.json['disk_crypt_key']);
    expect(readFileSync(join(out, 'share-1-of-5.json'), 'utf8')).not.toContain(
      toHex(kms.kms.keys.roots.k256),
    );
  });

  test('too few, mixed, changed and foreign shares are refused', () => {
    const people = custodians(3);
    const recipients = people.map(({ publicKey }) => publicKey);
    const open = (files: string[]) => files.map((file, index) => openShare(file, people[index]!.secret));
    const [a, b] = [backupShares(kms.kms.keys, 2, recipients), backupShares(kms.kms.keys, 2, recipients)].map(
      open,
    );
    expect(() => restoreKeys([readOpenedShare(a![0]!)])).toThrow('too few; 2 are needed');
    expect(() => restoreKeys([readOpenedShare(a![0]!), readOpenedShare(b![1]!)])).toThrow(
      'different backups',
    );
    expect(() => restoreKeys([readOpenedShare(a![0]!), readOpenedShare(a![0]!)])).toThrow(
      'do not go together',
    );
    const changed = readOpenedShare(a![1]!);
    changed.data[5]! ^= 1;
    expect(() => restoreKeys([readOpenedShare(a![0]!), changed])).toThrow('one of them was changed');
    const sealed = backupShares(kms.kms.keys, 2, recipients)[0]!;
    expect(() => openShare(sealed, people[1]!.secret)).toThrow('This share is for');
    const tampered = sealed.replace('"threshold": 2', '"threshold": 3');
    expect(() => openShare(tampered, people[0]!.secret)).toThrow('changed or damaged');
    expect(() => openShare('{}', people[0]!.secret)).toThrow('no share file');
    expect(() => backupShares(kms.kms.keys, 2, [recipients[0]!, recipients[0]!])).toThrow('named once');
  });
});
