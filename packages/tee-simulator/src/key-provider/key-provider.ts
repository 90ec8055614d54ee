import { createHash, hkdfSync } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import {
  AttestationError,
  parseTdxQuote,
  vendorRoots,
  verifyBareQuote,
  verifyContext,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { concatBytes, padRight, utf8 } from '@dstack-cloud/encoding';
import { sealBox } from '@dstack-cloud/keys';
import { SimulatorError } from '../errors.ts';
import { seededBytes } from '../pki/seeded-key.ts';
import { createPlatform, type SimulatedPlatform } from '../platform.ts';

/** As the original's provider: a message is its length (u32, most significant byte first) and JSON. */
const MAX_MESSAGE = 1024 * 1024;
const MAX_CONNECTIONS = 32;
const IDLE_MS = 30_000;
const KEY = 32;

export interface KeyProviderOptions {
  /** 0 (default) for any free port. */
  readonly port?: number;
  /** Loopback by default. */
  readonly host?: string;
}

export interface KeyProvider {
  readonly port: number;
  /** What guests pin as `key_provider_id`. */
  readonly mrEnclave: Uint8Array;
  close(): Promise<void>;
}

/**
 * The key provider enclave of key provider `local`, simulated: takes a TDX quote whose report data starts with an X25519
 * public key, and seals to it a key that depends on everything that the quote measures. Its own SGX quote names the
 * SHA-256 of what it sealed.
 * @param seed that of the machines whose quotes it believes
 * @throws SimulatorError `listen`
 */
export async function keyProvider(seed: Uint8Array, options: KeyProviderOptions = {}): Promise<KeyProvider> {
  const platform = createPlatform(seed);
  const { host = '127.0.0.1', port = 0 } = options;
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    serve(socket, seed, platform);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new SimulatorError('listen', `Cannot listen on ${host}:${port}: ${cause.message}`, { cause })),
    );
    server.listen(port, host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    mrEnclave: mrEnclaveOf(seed),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}

/** One request a connection. */
function serve(socket: Socket, seed: Uint8Array, platform: SimulatedPlatform): void {
  let received: Uint8Array = new Uint8Array();
  socket.on('data', (chunk) => {
    received = concatBytes(received, chunk as Buffer);
    if (received.length < 4) return;
    const length = new DataView(received.buffer, received.byteOffset).getUint32(0);
    if (length > MAX_MESSAGE || received.length > length + 4) return void socket.destroy();
    if (received.length < length + 4) return;
    socket.pause();
    answer(received.subarray(4), seed, platform).then(
      (bytes) => {
        const size = new Uint8Array(4);
        new DataView(size.buffer).setUint32(0, bytes.length);
        socket.end(concatBytes(size, bytes));
      },
      // The original's closes the connection without a word, too.
      () => socket.destroy(),
    );
  });
}

async function answer(
  request: Uint8Array,
  seed: Uint8Array,
  platform: SimulatedPlatform,
): Promise<Uint8Array> {
  const { quote } = JSON.parse(new TextDecoder().decode(request)) as { quote?: unknown };
  if (!Array.isArray(quote)) throw new AttestationError('malformed', 'quote is no list');
  const { encryptedKey, providerQuote } = await sealingKeyFor(
    Uint8Array.from(quote as number[]),
    seed,
    platform,
  );
  return utf8(JSON.stringify({ encrypted_key: [...encryptedKey], provider_quote: [...providerQuote] }));
}

/** The key of the TD that this quote is of, sealed to the public key in it. @throws AttestationError */
export async function sealingKeyFor(
  quote: Uint8Array,
  seed: Uint8Array,
  platform: SimulatedPlatform = createPlatform(seed),
): Promise<{ encryptedKey: Uint8Array; providerQuote: Uint8Array }> {
  const now = () => Math.floor(Date.now() / 1000);
  const context = verifyContext({
    roots: withTdxRoot(vendorRoots(), platform.rootDer),
    collateral: platform.collateralSource(now),
    now: now(),
  });
  const { td } = (await verifyBareQuote(quote, context)).quote;
  if (!td)
    throw new AttestationError('unsupported', 'The quote is of no TD', { found: parseTdxQuote(quote).tee });
  const measured = concatBytes(td.mrTd, ...td.rtmrs, td.mrConfigId, td.mrOwner, td.mrOwnerConfig);
  const key = new Uint8Array(hkdfSync('sha256', seed, 'simulated key provider', measured, KEY));
  const encryptedKey = sealBox(key, td.reportData.subarray(0, KEY));
  const hash = new Uint8Array(createHash('sha256').update(encryptedKey).digest());
  const mrEnclave = mrEnclaveOf(seed);
  return { encryptedKey, providerQuote: platform.enclaveQuote(padRight(hash, 64), { mrEnclave }) };
}

function mrEnclaveOf(seed: Uint8Array): Uint8Array {
  return seededBytes(seed, 'key-provider-mrenclave', 32);
}
