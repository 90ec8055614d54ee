import { spawn } from 'node:child_process';
import { printableLine } from '@dstack-cloud/encoding';
import { EifError } from '../errors.ts';
import type { EifSigner } from './signer.ts';

const LIMIT_MS = 60_000;
const MAX_OUTPUT = 16 * 1024;

/**
 * Signs with a command of the user, run by the shell: it reads the message on standard input and prints the signature, DER
 * or r‖s, in bytes or base64. So a key can stay in a module or with a service.
 */
export function commandSigner(
  certificate: Uint8Array,
  command: string,
  limitMs: number = LIMIT_MS,
): EifSigner {
  return { certificate, sign: async (message) => fromOutput(await run(command, message, limitMs)) };
}

async function run(command: string, input: Uint8Array, limitMs: number): Promise<Buffer> {
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  const end = (): void => {
    if (child.pid === undefined || child.exitCode !== null) return;
    try {
      // The whole group: the shell's children too.
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  };
  const timer = setTimeout(end, limitMs);
  const out = collect(child.stdout, end);
  const err = collect(child.stderr, () => undefined);
  // A command need not read its input to the end.
  child.stdin.on('error', () => undefined);
  child.stdin.end(input);
  try {
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (...ended) => resolve(ended));
    });
    if (code === 0) return out();
    const said = printableLine(err().toString('utf8').trim().slice(-400));
    throw new EifError('signer-failed', `The signing command failed${said === '' ? '' : `: ${said}`}`, {
      expected: 'exit status 0',
      found: signal === null ? `exit status ${code}` : `ended by ${signal} (${limitMs} ms at most)`,
    });
  } catch (cause) {
    if (cause instanceof EifError) throw cause;
    throw new EifError('signer-failed', 'The signing command could not be started', { cause });
  } finally {
    clearTimeout(timer);
  }
}

function collect(stream: NodeJS.ReadableStream, tooMuch: () => void): () => Buffer {
  const pieces: Buffer[] = [];
  let size = 0;
  stream.on('data', (piece: Buffer) => {
    size += piece.length;
    if (size <= MAX_OUTPUT) pieces.push(piece);
    else tooMuch();
  });
  return () => Buffer.concat(pieces);
}

function fromOutput(output: Buffer): Uint8Array {
  const text = output.toString('latin1').trim();
  const isBase64 = text.length > 40 && /^[A-Za-z0-9+/]+={0,2}$/.test(text) && text.length % 4 === 0;
  return new Uint8Array(isBase64 ? Buffer.from(text, 'base64') : output);
}
