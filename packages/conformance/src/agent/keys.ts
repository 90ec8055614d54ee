import { createHash, createPublicKey, verify } from 'node:crypto';
import { concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { ed25519PublicKey, k256PublicKey, recoverK256, verifyData } from '@dstack-cloud/keys';
import { type ConformanceCase, Deviation, expectSame, expectThat, NotApplicable, reading } from '../case.ts';
import type { Endpoint } from '../endpoint.ts';
import { call, expectRefusal, hexListOf, hexOf, refusal } from '../rpc.ts';
import type { AgentTarget } from './target.ts';

const DATA = toHex(utf8('Test message for signing'));
const DIGEST = toHex(createHash('sha256').update('Test message for signing').digest());
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

interface Key {
  readonly key: string;
  readonly chain: readonly string[];
}

async function getKey(dstack: Endpoint, path: string, purpose = '', algorithm = ''): Promise<Key> {
  const answer = await call(dstack, '/GetKey', { path, purpose, algorithm });
  return { key: hexOf(answer, 'key', 32), chain: hexListOf(answer, 'signature_chain', 2) };
}

/** Who signed `purpose:hex of the public key`. */
function signerOf(purpose: string, publicKey: Uint8Array, signature: string): string {
  const claim = utf8(`${purpose}:${toHex(publicKey)}`);
  return reading('signature_chain[0]', () => toHex(recoverK256(claim, fromHex(signature))));
}

/** The public key of the application's root key, as the first signature of a chain shows it. */
async function appKeyOf(dstack: Endpoint): Promise<string> {
  const { key, chain } = await getKey(dstack, 'conformance', 'signing');
  return signerOf('signing', k256PublicKey(fromHex(key)), chain[0]!);
}

/** Keys, signatures, and what they prove. */
export const KEY_CASES: readonly ConformanceCase<AgentTarget>[] = [
  {
    id: 'agent.get-key.stable',
    checks: 'GetKey gives the same key for a path each time, and another one for another path.',
    section: 'keys.md 3.3',
    run: async ({ dstack }) => {
      const paths = ['conformance', 'conformance/', '/conformance', 'Conformance', ''];
      const keys = await Promise.all(paths.map(async (path) => (await getKey(dstack, path)).key));
      expectSame('Different keys', new Set(keys).size, paths.length);
      const again = await Promise.all(paths.map(async (path) => (await getKey(dstack, path)).key));
      expectSame('Keys of a second call', again, keys);
    },
  },
  {
    id: 'agent.get-key.purpose',
    checks: 'Neither purpose nor algorithm is part of the derivation.',
    section: 'keys.md 3.3',
    run: async ({ dstack }) => {
      const { key } = await getKey(dstack, 'conformance');
      for (const [purpose, algorithm] of [
        ['x', ''],
        ['', 'secp256k1'],
        ['', 'ed25519'],
      ] as const)
        expectSame(
          `key for ${purpose} ${algorithm}`,
          (await getKey(dstack, 'conformance', purpose, algorithm)).key,
          key,
        );
    },
  },
  {
    id: 'agent.get-key.k256',
    checks: 'The algorithm k256 is secp256k1, and so is an empty one.',
    section: 'keys.md 3.3',
    run: async ({ dstack }) => {
      const key = await getKey(dstack, 'conformance', 'p', 'secp256k1');
      expectSame('k256', await getKey(dstack, 'conformance', 'p', 'k256'), key);
      expectSame('empty algorithm', await getKey(dstack, 'conformance', 'p', ''), key);
    },
  },
  {
    id: 'agent.get-key.unsupported',
    checks: 'GetKey refuses rsa and secp256k1_prehashed with `Unsupported algorithm`.',
    section: 'keys.md 3.3',
    run: async ({ dstack }) => {
      for (const algorithm of ['rsa', 'secp256k1_prehashed', 'Secp256k1'])
        await expectRefusal(dstack, '/GetKey', { path: 'a', algorithm }, /^Unsupported algorithm$/);
    },
  },
  {
    id: 'agent.get-key.chain',
    checks:
      "The first signature is one application key's over the purpose and the public key, of either type.",
    section: 'keys.md 5.3',
    run: async ({ dstack }) => {
      const appKey = await appKeyOf(dstack);
      for (const [path, purpose] of [
        ['', ''],
        ['a/b', 'x:y'],
        ['wallet', 'ü'],
      ] as const) {
        const secp = await getKey(dstack, path, purpose, 'secp256k1');
        const ed = await getKey(dstack, path, purpose, 'ed25519');
        expectSame(
          'Signer of a secp256k1 key',
          signerOf(purpose, k256PublicKey(fromHex(secp.key)), secp.chain[0]!),
          appKey,
        );
        expectSame(
          'Signer of an ed25519 key',
          signerOf(purpose, ed25519PublicKey(fromHex(ed.key)), ed.chain[0]!),
          appKey,
        );
      }
    },
  },
  {
    id: 'agent.get-key.signature-form',
    checks: 'A signature of the chain has 65 bytes, v 0 or 1, a low s, and is deterministic.',
    section: 'keys.md 5',
    run: async ({ dstack }) => {
      for (const path of ['a', 'b', 'c', 'd']) {
        const { chain } = await getKey(dstack, path, 'signing');
        const signature = fromHex(chain[0]!);
        expectSame('Bytes', signature.length, 65);
        expectThat((signature[64] ?? 9) <= 1, `v is ${signature[64]}`);
        expectThat(
          BigInt(`0x${toHex(signature.subarray(32, 64))}`) <= CURVE_ORDER / 2n,
          'The signature has a high s',
        );
        expectSame('A second signature', (await getKey(dstack, path, 'signing')).chain, chain);
      }
    },
  },
  {
    id: 'agent.get-key.issuer',
    checks: "The second signature is a key service's over the app id and the application's key.",
    section: 'keys.md 5.3',
    run: async ({ dstack }) => {
      const { chain } = await getKey(dstack, 'conformance', 'signing');
      if (chain[1] === '') throw new NotApplicable('the keys come from no key service');
      const appId = hexOf(await call(dstack, '/Info'), 'app_id', 20);
      const appKey = fromHex(await appKeyOf(dstack));
      const message = concatBytes(utf8('dstack-kms-issued:'), fromHex(appId), appKey);
      reading('signature_chain[1]', () => recoverK256(message, fromHex(chain[1]!)));
      // Some key can be recovered of any signature: a service signs for every key alike.
      const other = await getKey(dstack, 'another', 'x');
      expectSame('signature_chain[1] of another key', other.chain[1], chain[1]);
      expectSame('Bytes of signature_chain[1]', chain[1]!.length / 2, 65);
    },
  },
  {
    id: 'agent.sign.secp256k1',
    checks: 'Sign with secp256k1 signs SHA-256 of the data with the key of path vms: r and s, low s.',
    section: 'keys.md 5.4',
    run: async ({ dstack }) => {
      const { key } = await getKey(dstack, 'vms', 'signing', 'secp256k1');
      const answer = await call(dstack, '/Sign', { algorithm: 'secp256k1', data: DATA });
      const publicKey = hexOf(answer, 'public_key', 33);
      expectSame('public_key', publicKey, toHex(k256PublicKey(fromHex(key))));
      expectValid('secp256k1', DATA, hexOf(answer, 'signature', 64), publicKey);
    },
  },
  {
    id: 'agent.sign.prehashed',
    checks: 'secp256k1_prehashed signs the digest itself, and refuses one that has not 32 bytes.',
    section: 'keys.md 5.4',
    run: async ({ dstack }) => {
      const args = { algorithm: 'secp256k1_prehashed', data: DIGEST };
      const answer = await call(dstack, '/Sign', args);
      expectValid('secp256k1', DATA, hexOf(answer, 'signature', 64), hexOf(answer, 'public_key', 33));
      const text = /requires a 32-byte digest, but received 31 bytes$/;
      await expectRefusal(dstack, '/Sign', { ...args, data: DIGEST.slice(2) }, text);
    },
  },
  {
    id: 'agent.sign.ed25519',
    checks: 'Sign with ed25519 signs the data, RFC 8032.',
    section: 'keys.md 5.4',
    run: async ({ dstack }) => {
      const { key } = await getKey(dstack, 'vms', 'signing', 'ed25519');
      const answer = await call(dstack, '/Sign', { algorithm: 'ed25519', data: DATA });
      const publicKey = hexOf(answer, 'public_key', 32);
      expectSame('public_key', publicKey, toHex(ed25519PublicKey(fromHex(key))));
      const spki = Buffer.from(`302a300506032b6570032100${publicKey}`, 'hex');
      const signature = fromHex(hexOf(answer, 'signature', 64));
      const valid = verify(
        null,
        fromHex(DATA),
        createPublicKey({ key: spki, format: 'der', type: 'spki' }),
        signature,
      );
      expectThat(valid, 'The signature does not verify');
    },
  },
  {
    id: 'agent.sign.chain',
    checks: 'The chain of Sign has three items: the signature and the two of GetKey.',
    section: 'keys.md 5.4',
    run: async ({ dstack }) => {
      for (const algorithm of ['secp256k1', 'ed25519']) {
        const answer = await call(dstack, '/Sign', { algorithm, data: DATA });
        const { chain } = await getKey(dstack, 'vms', 'signing', algorithm);
        expectSame('signature_chain', hexListOf(answer, 'signature_chain', 3), [
          answer['signature'],
          ...chain,
        ]);
      }
    },
  },
  {
    id: 'agent.sign.unsupported',
    checks: 'Sign refuses an empty algorithm and rsa with `Unsupported algorithm`.',
    section: 'guest-agent.md 4.1',
    run: async ({ dstack }) => {
      for (const algorithm of ['', 'rsa'])
        await expectRefusal(dstack, '/Sign', { algorithm, data: DATA }, /Unsupported algorithm$/);
    },
  },
  {
    id: 'agent.verify.answers',
    checks: 'Verify says true for what Sign made, and false for other data and for another key.',
    section: 'keys.md 5.4',
    run: async ({ dstack }) => {
      for (const [algorithm, data] of [
        ['secp256k1', DATA],
        ['k256', DATA],
        ['secp256k1_prehashed', DIGEST],
        ['ed25519', DATA],
      ] as const) {
        const { signature, public_key } = await call(dstack, '/Sign', { algorithm, data });
        const valid = async (args: object): Promise<unknown> =>
          (await call(dstack, '/Verify', { algorithm, data, signature, public_key, ...args }))['valid'];
        expectSame(`valid with ${algorithm}`, await valid({}), true);
        expectSame(`valid with ${algorithm}, other data`, await valid({ data: flipped(data) }), false);
        const other = keyOfSeed(algorithm);
        expectSame(`valid with ${algorithm}, another key`, await valid({ public_key: other }), false);
      }
    },
  },
  {
    id: 'agent.verify.high-s',
    checks: 'Verify says false for a signature with a high s.',
    section: 'keys.md 5.4',
    run: async ({ dstack }) => {
      const args = { algorithm: 'secp256k1', data: DATA };
      const { signature, public_key } = await call(dstack, '/Sign', args);
      const text = String(signature);
      const high = (CURVE_ORDER - BigInt(`0x${text.slice(64)}`)).toString(16).padStart(64, '0');
      const answer = await call(dstack, '/Verify', {
        ...args,
        signature: text.slice(0, 64) + high,
        public_key,
      });
      expectSame('valid', answer['valid'], false);
    },
  },
  {
    id: 'agent.verify.malformed',
    checks: 'Verify refuses keys and signatures that are not well formed, instead of saying false.',
    section: 'keys.md 5.4',
    run: async ({ dstack }) => {
      for (const algorithm of ['secp256k1', 'ed25519']) {
        const { signature, public_key } = await call(dstack, '/Sign', { algorithm, data: DATA });
        const args = { algorithm, data: DATA, signature, public_key };
        for (const wrong of [
          { signature: String(signature).slice(2) },
          { public_key: String(public_key).slice(2) },
          { signature: '' },
          { public_key: '' },
        ])
          expectSame('Status', (await refusal(dstack, '/Verify', { ...args, ...wrong })).status, 400);
      }
    },
  },
];

function expectValid(algorithm: string, data: string, signature: string, publicKey: string): void {
  const valid = reading('signature', () =>
    verifyData(algorithm, fromHex(data), fromHex(signature), fromHex(publicKey)),
  );
  if (!valid) throw new Deviation('The signature does not verify, or has a high s');
}

function flipped(hex: string): string {
  return `${hex.startsWith('0') ? '1' : '0'}${hex.slice(1)}`;
}

/** Somebody else's public key. */
function keyOfSeed(algorithm: string): string {
  const seed = new Uint8Array(32).fill(7);
  return toHex(algorithm === 'ed25519' ? ed25519PublicKey(seed) : k256PublicKey(seed));
}
