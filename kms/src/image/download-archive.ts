import { createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { AttestationError } from '@dstack-cloud/attestation';

/** Largest archive taken from a server. */
const MAX_ARCHIVE_BYTES = 2 * 1024 ** 3;

/**
 * Downloads an archive into a file. A file that is there already is what an earlier attempt got: the server is asked
 * for the rest.
 * @throws AttestationError `collateral-unavailable`, `too-large`; the part that was got stays
 */
export async function downloadArchive(url: string, path: string, signal: AbortSignal): Promise<void> {
  const have = await stat(path).then(
    ({ size }) => size,
    () => 0,
  );
  try {
    const response = await fetch(url, {
      signal,
      redirect: 'follow',
      headers: have > 0 ? { Range: `bytes=${have}-` } : {},
    });
    // 416: there is nothing after what we have, so it is whole; unpacking will tell.
    if (response.status === 416 && have > 0) return;
    if (!response.ok || response.body === null) {
      throw unavailable(`Failed to download image: HTTP status ${response.status}`);
    }
    const resumes = response.status === 206;
    const limit = bounded(resumes ? have : 0);
    const file = createWriteStream(path, { flags: resumes ? 'a' : 'w', mode: 0o644 });
    await pipeline(Readable.fromWeb(response.body as never), limit, file);
  } catch (error) {
    if (error instanceof AttestationError) throw error;
    throw unavailable(signal.aborted ? 'Download image timeout' : 'Failed to download image', error);
  }
}

function bounded(already: number): Transform {
  let total = already;
  return new Transform({
    transform(piece: Uint8Array, _encoding, done) {
      total += piece.length;
      if (total <= MAX_ARCHIVE_BYTES) done(null, piece);
      else done(new AttestationError('too-large', 'The archive of the OS image is larger than 2 GiB'));
    },
  });
}

function unavailable(message: string, cause?: unknown): AttestationError {
  return new AttestationError('collateral-unavailable', message, { cause });
}
