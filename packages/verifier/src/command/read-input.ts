import { open } from 'node:fs/promises';
import { collectBytes } from '@dstack-cloud/runtime';
import { VerifierError } from '../errors.ts';

/**
 * Reads a file, or standard input for `-`, of at most `max` bytes.
 * @throws VerifierError `io`, `too-large`
 */
export async function readInput(path: string, max: number): Promise<Uint8Array> {
  try {
    return path === '-' ? await readStream(process.stdin, path, max) : await readFile(path, max);
  } catch (cause) {
    if (cause instanceof VerifierError) throw cause;
    throw new VerifierError('io', `Cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
}

async function readFile(path: string, max: number): Promise<Uint8Array> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    if (size > max) throw tooLarge(path, max);
    return await readStream(file.createReadStream({ autoClose: false }), path, max);
  } finally {
    await file.close();
  }
}

function readStream(stream: AsyncIterable<Uint8Array>, path: string, max: number): Promise<Uint8Array> {
  return collectBytes(stream, max, () => tooLarge(path, max));
}

function tooLarge(path: string, max: number): VerifierError {
  return new VerifierError('too-large', `${path} is larger than ${max} bytes`);
}
