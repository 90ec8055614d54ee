/** Where a key may come from, and what is refused. */

import { createCipheriv, scryptSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  keccak256,
  parseTransaction,
  type TransactionSerializableEIP1559,
  type TypedDataDefinition,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decryptKeystore } from './keystore.ts';
import { findSigner, type SignerSource } from './signer.ts';

// Test vector of the Web3 Secret Storage definition; the password is "testpassword".
const SECRET = '0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d';
const PBKDF2 = {
  crypto: {
    cipher: 'aes-128-ctr',
    cipherparams: { iv: '6087dab2f9fdbbfaddc31a909735c1e6' },
    ciphertext: '5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46',
    kdf: 'pbkdf2',
    kdfparams: {
      c: 262_144,
      dklen: 32,
      prf: 'hmac-sha256',
      salt: 'ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd',
    },
    mac: '517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2',
  },
  version: 3,
};
/** The same key, encrypted as geth does it, at a lower cost. */
const SCRYPT = ((): typeof PBKDF2 & { crypto: { kdfparams: object } } => {
  const [salt, iv] = ['ab'.repeat(32), 'cd'.repeat(16)];
  const params = { dklen: 32, n: 4096, r: 8, p: 1, salt };
  const derived = scryptSync('testpassword', Buffer.from(salt, 'hex'), 32, { N: 4096, r: 8, p: 1 });
  const cipher = createCipheriv('aes-128-ctr', derived.subarray(0, 16), Buffer.from(iv, 'hex'));
  const ciphertext = cipher.update(SECRET.slice(2), 'hex', 'hex') + cipher.final('hex');
  const mac = keccak256(`0x${derived.subarray(16).toString('hex')}${ciphertext}`).slice(2);
  const common = { cipher: 'aes-128-ctr', cipherparams: { iv }, ciphertext, mac };
  return { crypto: { ...common, kdf: 'scrypt', kdfparams: params as never }, version: 3 };
})();

let directory: string;
let server: Server | undefined;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'signer-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
  server?.close();
});

function file(name: string, text: string, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, text, { mode });
  return path;
}
const source = (more: Partial<SignerSource> = {}): SignerSource => ({ env: {}, warn: () => {}, ...more });

describe('encrypted key files', () => {
  test.each([
    ['pbkdf2', PBKDF2],
    ['scrypt', SCRYPT],
  ])('%s', (_, vector) => {
    expect(decryptKeystore(JSON.stringify(vector), 'testpassword')).toBe(SECRET);
    expect(() => decryptKeystore(JSON.stringify(vector), 'other')).toThrow('the password is wrong');
  });

  test.each([
    ['no JSON', '{', /no JSON/],
    ['null', 'null', /version/],
    ['another version', JSON.stringify({ ...PBKDF2, version: 1 }), /version/],
    ['too much memory', change({ n: 2 ** 30 }), /out of bounds/],
    ['too many rounds', change({ p: 1_000 }), /out of bounds/],
    ['too much memory, too often', change({ n: 2 ** 18, p: 5 }), /out of bounds/],
    ['a cost that is no power of two', change({ n: 4097 }), /not those of a key file/],
    ['no number', change({ n: '4096' }), /no positive number/],
    ['no salt', change({ salt: 7 }), /salt is no hex/],
  ])('%s is refused at once', (_, text, message) => {
    expect(() => decryptKeystore(text, 'testpassword')).toThrow(message);
  });
  function change(params: object): string {
    return JSON.stringify({
      ...SCRYPT,
      crypto: { ...SCRYPT.crypto, kdfparams: { ...SCRYPT.crypto.kdfparams, ...params } },
    });
  }
});

describe('a key', () => {
  const expected = privateKeyToAccount(SECRET).address;

  test('from the environment, a plain file, an encrypted file', async () => {
    expect((await findSigner(source({ env: { PRIVATE_KEY: SECRET } }))).address).toBe(expected);
    const plain = file('plain', `${SECRET.slice(2)}\n`);
    expect((await findSigner(source({ keyFile: plain }))).address).toBe(expected);
    const keyFile = file('encrypted', JSON.stringify(PBKDF2));
    const passwordFile = file('password', 'testpassword\n');
    expect((await findSigner(source({ keyFile, passwordFile }))).address).toBe(expected);
    await expect(findSigner(source({ keyFile }))).rejects.toThrow('is encrypted');
  });

  test('in a device or a file without end is refused, and read no further', async () => {
    await expect(findSigner(source({ keyFile: '/dev/zero' }))).rejects.toThrow('/dev/zero is too large');
    const large = file('large', 'a'.repeat(65_537));
    await expect(findSigner(source({ keyFile: large }))).rejects.toThrow('is too large');
  });

  test('that others may read gets a warning; text that is none is not shown', async () => {
    const warnings: string[] = [];
    await findSigner(
      source({ keyFile: file('open', SECRET, 0o644), warn: (line) => void warnings.push(line) }),
    );
    expect(warnings.join()).toContain('chmod 600');
    await expect(findSigner(source({ keyFile: file('bad', 'almost a secret') }))).rejects.toThrow(
      expect.objectContaining({ code: 'no-key', message: expect.not.stringContaining('almost') }),
    );
    const outside = source({ env: { PRIVATE_KEY: 'f'.repeat(64) } });
    await expect(findSigner(outside)).rejects.toThrow(
      expect.objectContaining({ code: 'no-key', message: expect.not.stringMatching(/\d{9}/) }),
    );
    await expect(findSigner(source({ keyFile: join(directory, 'none') }))).rejects.toThrow('cannot be read');
    await expect(findSigner(source({ keyFile: 'a', signerUrl: 'http://127.0.0.1' }))).rejects.toThrow('both');
  });
});

describe('a remote signer', () => {
  const account = privateKeyToAccount(SECRET);
  const transaction: TransactionSerializableEIP1559 = {
    ...{ chainId: 31_337, nonce: 3, gas: 21_000n, maxFeePerGas: 2n, maxPriorityFeePerGas: 1n },
    ...{ to: account.address, data: '0x06a3ae96', type: 'eip1559' },
  };

  async function start(answer: (method: string, params: unknown[]) => Promise<unknown>): Promise<string> {
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on('end', () => {
        const { method, params } = JSON.parse(body);
        void answer(method, params).then((result) =>
          response.end(JSON.stringify({ jsonrpc: '2.0', id: 1, result })),
        );
      });
    }).listen(0, '127.0.0.1');
    await new Promise((done) => server?.once('listening', done));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  test('signs what is asked for, with the account that it has', async () => {
    const url = await start(async (method, [asked]) => {
      if (method === 'eth_accounts') return [account.address];
      const { chainId, nonce, gas, maxFeePerGas, maxPriorityFeePerGas, to, data } = asked as Record<
        string,
        string
      >;
      return {
        raw: await account.signTransaction({
          ...{ type: 'eip1559', to: to as `0x${string}`, data: data as `0x${string}` },
          ...{ chainId: Number(chainId), nonce: Number(nonce), gas: BigInt(gas!) },
          ...{ maxFeePerGas: BigInt(maxFeePerGas!), maxPriorityFeePerGas: BigInt(maxPriorityFeePerGas!) },
        }),
      };
    });
    const signer = await findSigner(source({ signerUrl: url }));
    expect(signer.address).toBe(account.address);
    const signed = await signer.signTransaction(transaction);
    expect(parseTransaction(signed as never)).toMatchObject({
      nonce: 3,
      data: '0x06a3ae96',
      chainId: 31_337,
    });
  });

  test.each([
    ['sender', {}, privateKeyToAccount(`0x${'11'.repeat(32)}`)],
    ['receiver', { to: `0x${'1'.repeat(40)}` }, account],
    ['data', { data: '0x06a3ae97' }, account],
    ['value', { value: 1n }, account],
    ['nonce', { nonce: 4 }, account],
    ['chain', { chainId: 1 }, account],
    ['gas', { gas: 21_001n }, account],
    ['fee', { maxFeePerGas: 3n }, account],
    ['list', { accessList: [{ address: account.address, storageKeys: [] }] }, account],
  ] as const)('that signs for another %s is refused', async (what, changes, signing) => {
    const url = await start(async () => ({
      raw: await signing.signTransaction({ ...transaction, ...changes }),
    }));
    const signer = await findSigner(source({ signerUrl: url, from: account.address }));
    await expect(signer.signTransaction(transaction)).rejects.toThrow(`its ${what} differs`);
  });

  test.each(['0x', '0x02', '0x02c0', `0x${'00'.repeat(40)}`])('that answers %s is refused', async (raw) => {
    const signer = await findSigner(
      source({ signerUrl: await start(async () => raw), from: account.address }),
    );
    await expect(signer.signTransaction(transaction)).rejects.toThrow('no signed transaction');
  });

  describe('of typed data', () => {
    const typed: TypedDataDefinition = {
      ...{ domain: { chainId: 31_337 }, types: { Word: [{ name: 'text', type: 'string' }] } },
      ...{ primaryType: 'Word', message: { text: 'yes' } },
    };

    test('signs what is asked for', async () => {
      const url = await start(async (method, [from, text]): Promise<unknown> => {
        expect([method, from]).toEqual(['eth_signTypedData_v4', account.address]);
        return await account.signTypedData(JSON.parse(String(text)));
      });
      const signer = await findSigner(source({ signerUrl: url, from: account.address }));
      expect(await signer.signTypedData(typed)).toBe(await account.signTypedData(typed));
    });

    const other: TypedDataDefinition = { ...typed, message: { text: 'no' } };
    const stranger = privateKeyToAccount(`0x${'11'.repeat(32)}`);
    const wrong: [string, () => Promise<unknown>, string][] = [
      ['something else', async () => await account.signTypedData(other), 'something else'],
      ['with another key', async () => await stranger.signTypedData(typed), 'another key'],
      ['nothing', async () => '0x', 'no signature'],
      ['no signature of any key', async () => `0x${'00'.repeat(65)}`, 'something else'],
    ];
    test.each(wrong)('that signs %s is refused', async (_, sign, message) => {
      const signer = await findSigner(source({ signerUrl: await start(sign), from: account.address }));
      await expect(signer.signTypedData(typed)).rejects.toThrow(message);
    });
  });

  test('is refused when it is far and not encrypted, or does not answer as one', async () => {
    await expect(findSigner(source({ signerUrl: 'http://example.com' }))).rejects.toThrow('https');
    await expect(findSigner(source({ signerUrl: 'nothing' }))).rejects.toThrow('is no URL');
    const named = findSigner(source({ signerUrl: 'https://me:hidden@example.com' }));
    await expect(named).rejects.toThrow(
      expect.objectContaining({ code: 'no-key', message: expect.not.stringContaining('hidden') }),
    );
    const endless = createServer((_, response) => {
      const write = (): void => {
        while (response.writable && response.write(' '.repeat(65_536)));
      };
      response.on('drain', write);
      write();
    }).listen(0, '127.0.0.1');
    await new Promise((done) => endless.once('listening', done));
    const { port } = endless.address() as AddressInfo;
    await expect(findSigner(source({ signerUrl: `http://127.0.0.1:${port}` }))).rejects.toThrow(
      'refused eth_accounts',
    );
    endless.closeAllConnections();
    endless.close();
    const silent = await start(async () => undefined);
    await expect(findSigner(source({ signerUrl: silent }))).rejects.toThrow('refused eth_accounts');
    const signer = await findSigner(source({ signerUrl: silent, from: account.address }));
    await expect(signer.signTransaction(transaction)).rejects.toThrow('refused eth_signTransaction');
  });
});
