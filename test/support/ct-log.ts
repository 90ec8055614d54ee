/** A log of RFC 6962 on loopback, which can be told to lie. */
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

export type CtLog = {
  readonly url: string;
  /** PEM. */
  readonly publicKey: string;
  /** Adds a certificate (DER), or the TBSCertificate of a precertificate. */
  add(der: Uint8Array, kind?: 'certificate' | 'precertificate'): void;
  /** Replaces an entry: the tree is another. */
  rewrite(index: number, der: Uint8Array): void;
  /** Forgets the last entries. */
  truncate(size: number): void;
  /** What is shown of an entry is not what is in the tree. */
  hide(index: number, der: Uint8Array): void;
  /** Signs with another key from now on. */
  signWrongly(): void;
  close(): void;
};

export async function startCtLog(): Promise<CtLog> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  let key = privateKey;
  const leaves: Buffer[] = [];
  const shown = new Map<number, Buffer>();
  // Fewer than a client may ask for, as logs do.
  const page = 5;
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://x');
    const number = (name: string): number => Number(searchParams.get(name));
    const answer = (): unknown => {
      if (pathname === '/ct/v1/get-sth') return treeHead(leaves, key);
      if (pathname === '/ct/v1/get-sth-consistency') {
        const proof = consistency(number('first'), leaves.slice(0, number('second')));
        return { consistency: proof.map((node) => node.toString('base64')) };
      }
      const end = Math.min(number('end') + 1, number('start') + page, leaves.length);
      const entries = leaves
        .slice(number('start'), end)
        .map((leaf, at) => shown.get(number('start') + at) ?? leaf);
      return { entries: entries.map((leaf) => ({ leaf_input: leaf.toString('base64'), extra_data: '' })) };
    };
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer()));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    publicKey: publicKey.export({ format: 'pem', type: 'spki' }) as string,
    add: (der, kind = 'certificate') => void leaves.push(leafOf(der, kind)),
    rewrite: (index, der) => void leaves.splice(index, 1, leafOf(der, 'certificate')),
    truncate: (size) => void leaves.splice(size),
    hide: (index, der) => void shown.set(index, leafOf(der, 'certificate')),
    signWrongly: () => {
      key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    },
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** RFC 6962 section 3.4. */
function leafOf(der: Uint8Array, kind: 'certificate' | 'precertificate'): Buffer {
  const head = Buffer.alloc(12);
  head.writeBigUInt64BE(1_700_000_000_000n, 2);
  head.writeUInt16BE(kind === 'certificate' ? 0 : 1, 10);
  const length = Buffer.alloc(3);
  length.writeUIntBE(der.length, 0, 3);
  const issuer = kind === 'certificate' ? Buffer.alloc(0) : Buffer.alloc(32, 7);
  return Buffer.concat([head, issuer, length, der, Buffer.alloc(2)]);
}

/** RFC 6962 section 2.1, as it is written there. */
export function treeHash(leaves: readonly Uint8Array[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return sha256(Buffer.of(0), leaves[0]!);
  const k = split(leaves.length);
  return sha256(Buffer.of(1), treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
}

/** RFC 6962 section 2.1.2: PROOF(m, D[n]). */
export function consistency(m: number, leaves: readonly Uint8Array[]): Buffer[] {
  const sub = (part: number, rest: readonly Uint8Array[], isWhole: boolean): Buffer[] => {
    if (part === rest.length) return isWhole ? [] : [treeHash(rest)];
    const k = split(rest.length);
    return part <= k
      ? [...sub(part, rest.slice(0, k), isWhole), treeHash(rest.slice(k))]
      : [...sub(part - k, rest.slice(k), false), treeHash(rest.slice(0, k))];
  };
  return sub(m, leaves, true);
}

/** The largest power of two below n. */
function split(n: number): number {
  let k = 1;
  while (2 * k < n) k *= 2;
  return k;
}

/** RFC 6962 section 3.5. */
function treeHead(leaves: readonly Uint8Array[], key: import('node:crypto').KeyObject) {
  const [root, timestamp] = [treeHash(leaves), 1_700_000_000_000];
  const signed = Buffer.alloc(50);
  signed.writeUInt8(1, 1);
  signed.writeBigUInt64BE(BigInt(timestamp), 2);
  signed.writeBigUInt64BE(BigInt(leaves.length), 10);
  root.copy(signed, 18);
  const signature = sign('sha256', signed, key);
  const head = Buffer.from([4, 3, signature.length >> 8, signature.length & 0xff]);
  return {
    ...{ tree_size: leaves.length, timestamp, sha256_root_hash: root.toString('base64') },
    tree_head_signature: Buffer.concat([head, signature]).toString('base64'),
  };
}

function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}
