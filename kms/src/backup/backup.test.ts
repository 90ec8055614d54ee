import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { generateP256Key } from '@dstack-cloud/keys';
import { armor, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { beforeAll, describe, expect, test } from 'vitest';
import { combineRoots, openShare } from './combine-roots.ts';
import { parseIdentities, parseRecipient, recipientKeyHex } from './recipient.ts';
import { type BackupShare, parseShare } from './share.ts';
import { type BackupRoots, splitRoots } from './split-roots.ts';

const roots: BackupRoots = {
  caScalar: generateP256Key().scalar,
  tempCaScalar: generateP256Key().scalar,
  k256: new Uint8Array(32).fill(9),
  history: [],
};

let identities: string[];
let shares: BackupShare[];
let files: Awaited<ReturnType<typeof splitRoots>>;

beforeAll(async () => {
  identities = await Promise.all(['alice', 'bob', 'carol'].map(() => generateX25519Identity()));
  const recipients = await Promise.all(
    ['alice', 'bob', 'carol'].map(async (name, index) =>
      parseRecipient(`${name}=${await identityToRecipient(identities[index]!)}`),
    ),
  );
  files = await splitRoots(roots, 2, recipients, 1_700_000_000);
  shares = await Promise.all(files.map(({ data }, index) => openShare(data, identities[index]!)));
});

describe('backup', () => {
  test('any two of three shares give back the roots', async () => {
    for (const pair of [
      [0, 1],
      [0, 2],
      [1, 2],
      [2, 0],
    ]) {
      expect(await combineRoots(pair.map((index) => shares[index]!))).toEqual(roots);
    }
    expect(await combineRoots(shares)).toEqual(roots);
  });

  test('retired roots are split and come back with the active one, and cannot be forged', async () => {
    const history = [11, 12].map((byte) => ({
      caScalar: generateP256Key().scalar,
      k256: new Uint8Array(32).fill(byte),
    }));
    const recipients = await Promise.all(
      identities.map(async (identity, index) =>
        parseRecipient(`p${index}=${await identityToRecipient(identity)}`),
      ),
    );
    const made = await splitRoots({ ...roots, history }, 2, recipients, 1_700_000_000);
    const opened = await Promise.all(made.map(({ data }, index) => openShare(data, identities[index]!)));
    expect(opened[0]!.version).toBe(2);
    expect(await combineRoots([opened[2]!, opened[0]!])).toEqual({ ...roots, history });
    for (const byte of [0, 32, 64, 96, 128, 160, 223]) {
      const changed = fromHex(opened[1]!.share);
      changed[byte]! ^= 1;
      const forged = { ...opened[1]!, share: toHex(changed) };
      await expect(combineRoots([opened[0]!, forged])).rejects.toMatchObject({ code: 'backup-invalid' });
    }
    const fewer = { ...opened[1]!, history: opened[1]!.history!.slice(1) };
    await expect(combineRoots([opened[0]!, fewer])).rejects.toMatchObject({ code: 'backup-invalid' });
  });

  test('shares of older versions, without history and without the name of the temporary CA, still restore', async () => {
    expect(shares.map(({ version }) => version)).toEqual([1, 1, 1]);
    const old = shares.map(({ temp_ca_pubkey: _, ...share }) => parseShare(JSON.stringify(share)));
    expect(await combineRoots(old.slice(1))).toEqual(roots);
    expect(() => parseShare(JSON.stringify({ ...shares[0]!, share: shares[0]!.share.slice(2) }))).toThrow(
      /share/,
    );
  });

  test('one share, or one share twice, gives nothing', async () => {
    await expect(combineRoots([shares[0]!])).rejects.toMatchObject({ code: 'backup-invalid' });
    await expect(combineRoots([shares[0]!, shares[0]!])).rejects.toMatchObject({ code: 'backup-invalid' });
    await expect(combineRoots([])).rejects.toMatchObject({ code: 'backup-invalid' });
  });

  test('a share file opens only with its recipient', async () => {
    await expect(openShare(files[0]!.data, identities[1]!)).rejects.toMatchObject({ code: 'backup-invalid' });
    const flipped = files[0]!.data.slice();
    flipped[flipped.length - 1]! ^= 1;
    await expect(openShare(flipped, identities[0]!)).rejects.toMatchObject({ code: 'backup-invalid' });
  });

  test('a forged share, or one of another backup, is refused', async () => {
    // In the part of the root CA, of the temporary CA, and of the k256 root.
    for (const byte of [0, 32, 64]) {
      const changed = fromHex(shares[1]!.share);
      changed[byte]! ^= 1;
      const forged = { ...shares[1]!, share: toHex(changed) };
      await expect(combineRoots([shares[0]!, forged])).rejects.toMatchObject({ code: 'backup-invalid' });
    }
    const other = { ...shares[1]!, set: '00'.repeat(16) };
    await expect(combineRoots([shares[0]!, other])).rejects.toMatchObject({ code: 'backup-invalid' });
  });

  test('recipients are age keys or X25519 keys in hex, named once', async () => {
    const age = await identityToRecipient(identities[0]!);
    const hex = recipientKeyHex(age);
    expect(parseRecipient(`dan=x25519:${hex}`)).toEqual({ name: 'dan', ageRecipient: age });
    for (const wrong of [
      'dan',
      '=age1',
      `dan=x25519:${hex}00`,
      'dan=age1qqqq',
      'Dan Smith=age1',
      `dan=${hex}`,
    ]) {
      expect(() => parseRecipient(wrong)).toThrow(expect.objectContaining({ code: 'backup-invalid' }));
    }
    expect(parseRecipient(`dan=${age.toUpperCase()}`)).toEqual({ name: 'dan', ageRecipient: age });
    const useless = [parseRecipient(`a=${age}`), parseRecipient(`b=x25519:${'00'.repeat(32)}`)];
    await expect(splitRoots(roots, 2, useless, 0)).rejects.toMatchObject({ code: 'backup-invalid' });
    const twice = [parseRecipient(`a=${age}`), parseRecipient(`b=${age}`)];
    await expect(splitRoots(roots, 2, twice, 0)).rejects.toMatchObject({ code: 'backup-invalid' });
    await expect(splitRoots(roots, 1, twice, 0)).rejects.toMatchObject({ code: 'backup-invalid' });
  });

  test('a share in the text form of age opens too', async () => {
    const text = utf8(armor.encode(files[0]!.data));
    expect(await openShare(text, identities[0]!)).toEqual(shares[0]);
    const broken = text.slice(0, text.length - 60);
    await expect(openShare(broken, identities[0]!)).rejects.toMatchObject({ code: 'backup-invalid' });
  });

  test('an identity file may hold age identities or X25519 secrets in hex', async () => {
    const secret = 'a0'.repeat(32);
    const [identity = ''] = parseIdentities(`# my key\n${secret}\n`);
    const recipient = await identityToRecipient(identity);
    expect(toHex(fromHex(recipientKeyHex(recipient)))).toHaveLength(64);
    const text = `# created\r\n${identities[0]}\r\n\n# and\n${identities[1]}`;
    expect(parseIdentities(text)).toEqual(identities.slice(0, 2));
    for (const wrong of ['hunter2', '', '# nothing', `${identities[0]}\nhunter2`]) {
      expect(() => parseIdentities(wrong)).toThrow(expect.objectContaining({ code: 'backup-invalid' }));
    }
  });
});
