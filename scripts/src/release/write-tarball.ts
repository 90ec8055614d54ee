import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';

/** As npm's own tarballs have it. */
const MTIME = new Date('1985-10-26T08:15:00Z');
/** Byte 9 of a gzip header: the operating system; unknown, so that all write the same (RFC 1952 section 2.3). */
const OS_BYTE = 9;
const UNKNOWN_OS = 255;

/** An npm tarball of files by their path: the same bytes for the same files. */
export async function writeTarball(files: ReadonlyMap<string, string>): Promise<Uint8Array> {
  const archive = pack();
  const parts: Buffer[] = [];
  archive.on('data', (part) => parts.push(part as Buffer));
  const ended = new Promise<void>((resolve, reject) => {
    archive.once('end', resolve);
    archive.once('error', reject);
  });
  for (const [path, text] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const mode = path.startsWith('bin/') ? 0o755 : 0o644;
    archive.entry({ name: `package/${path}`, mode, uid: 0, gid: 0, mtime: MTIME }, text);
  }
  archive.finalize();
  await ended;
  const tarball = gzipSync(Buffer.concat(parts), { level: 9 });
  tarball[OS_BYTE] = UNKNOWN_OS;
  return new Uint8Array(tarball);
}
