import { connect } from 'node:net';
import { RpcError } from '@dstack-cloud/prpc';
import { VmmError } from '../errors.ts';

/** Messages of the provider: their length (u32, most significant byte first), then JSON. */
const LENGTH = 4;
const MAX_QUOTE = 1024 * 1024;
const MAX_ANSWER = 1024 * 1024;
const TIMEOUT_MS = 30_000;
const CONNECT_MS = 5_000;

/** Where the key provider enclave of a host listens. */
export interface KeyProviderAddress {
  readonly host: string;
  readonly port: number;
}

/** Where hosts have the one of key provider `local`. */
export const LOCAL_KEY_PROVIDER: KeyProviderAddress = { host: '127.0.0.1', port: 3443 };

/**
 * A machine whose keys come from this host's key provider does not start without one.
 *
 * @throws VmmError `program_missing`
 */
export async function requireKeyProvider({
  host,
  port,
}: KeyProviderAddress = LOCAL_KEY_PROVIDER): Promise<void> {
  const problem = await new Promise<string | undefined>((resolve) => {
    const socket = connect({ host, port, timeout: CONNECT_MS });
    const end = (outcome?: string): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.once('connect', () => end());
    socket.once('timeout', () => end(`no connection in ${CONNECT_MS} ms`));
    socket.once('error', (error) => end(error.message));
  });
  if (problem === undefined) return;
  throw new VmmError(
    'program_missing',
    `This host has no key provider for a machine with key provider local: start it, or set key_provider to kms in app.json`,
    { expected: `a key provider on ${host}:${port}`, found: problem },
  );
}

/**
 * Hands a machine's quote to the key provider enclave of this host and brings its answer back. The machine verifies the
 * answer; this host sees a key that is sealed to the machine.
 *
 * @throws RpcError with what the machine may know
 */
export async function askKeyProvider(
  address: KeyProviderAddress,
  quote: Uint8Array,
): Promise<{ encryptedKey: Uint8Array; providerQuote: Uint8Array }> {
  if (quote.length === 0 || quote.length > MAX_QUOTE)
    throw new RpcError(`A quote has 1 to ${MAX_QUOTE} bytes`);
  const answer = await exchange(address, Buffer.from(JSON.stringify({ quote: [...quote] })));
  let document: unknown;
  try {
    document = JSON.parse(answer.toString('utf8'));
  } catch (cause) {
    throw unusable(cause);
  }
  const { encrypted_key, provider_quote } = (document ?? {}) as Record<string, unknown>;
  return { encryptedKey: bytes(encrypted_key), providerQuote: bytes(provider_quote) };
}

function bytes(value: unknown): Uint8Array {
  const good = (one: unknown) => typeof one === 'number' && Number.isInteger(one) && one >= 0 && one <= 255;
  if (!Array.isArray(value) || value.length === 0 || !value.every(good)) throw unusable();
  return Uint8Array.from(value as number[]);
}

function unusable(cause?: unknown): RpcError {
  return new RpcError('The key provider of this host gave an answer that is none', { cause });
}

function exchange({ host, port }: KeyProviderAddress, request: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const fail = (message: string): void => {
      socket.destroy();
      reject(new RpcError(message, { code: 'UNAVAILABLE' }));
    };
    const timer = setTimeout(
      () => fail(`The key provider of this host gave no answer in ${TIMEOUT_MS} ms`),
      TIMEOUT_MS,
    );
    const chunks: Buffer[] = [];
    let size = 0;
    socket.once('connect', () => {
      const length = Buffer.alloc(LENGTH);
      length.writeUInt32BE(request.length);
      socket.write(Buffer.concat([length, request]));
    });
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size < LENGTH) return;
      const received = Buffer.concat(chunks);
      const wanted = received.readUInt32BE(0);
      if (wanted > MAX_ANSWER || size > LENGTH + wanted)
        return fail('The key provider of this host gave an answer of impossible size');
      if (size < LENGTH + wanted) return;
      socket.destroy();
      resolve(received.subarray(LENGTH));
    });
    socket.once('error', (error: NodeJS.ErrnoException) =>
      fail(
        error.code === 'ECONNREFUSED'
          ? `This host has no local key provider: nobody listens on ${host}:${port}`
          : `The key provider of this host cannot be asked: ${error.message}`,
      ),
    );
    socket.once('close', () => {
      clearTimeout(timer);
      fail('The key provider of this host refused the quote');
    });
  });
}
