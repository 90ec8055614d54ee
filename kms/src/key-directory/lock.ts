import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { KmsError } from '../errors.ts';

/** Held until `release`, or until the process ends, however it ends. */
export type DirectoryLock = { release(): Promise<void> };

/**
 * Makes this process the only one that changes a key directory: a running KMS, `rotate-root` and `restore` hold it. An
 * abstract unix socket, as for the event log (decision 006): the kernel takes it back when its process ends, so there
 * is no stale lock to detect. It is named by the folder itself, whatever path leads there.
 * @throws KmsError `keys-in-use` at once when another process holds it
 */
export function lockKeyDirectory(directory: string): Promise<DirectoryLock> {
  const text = `Another process uses the keys in ${directory}: stop the KMS, or wait until the command has ended`;
  return lock('keys', directory, new KmsError('keys-in-use', text));
}

/**
 * Makes this process the only writer of the audit log in a folder, wherever that is configured to be: two would each
 * break the chain of the other.
 * @throws KmsError `audit-in-use` at once when another process holds it
 */
export function lockAuditDirectory(directory: string): Promise<DirectoryLock> {
  const text = `Another process writes the audit log in ${directory}: each KMS needs a folder of its own (core.audit.dir)`;
  return lock('audit', directory, new KmsError('audit-in-use', text));
}

async function lock(kind: string, directory: string, inUse: KmsError): Promise<DirectoryLock> {
  // Abstract sockets are a thing of Linux; elsewhere a KMS runs for development alone.
  if (process.platform !== 'linux') return { release: async () => undefined };
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const { dev, ino } = await stat(directory, { bigint: true });
  const name = createHash('sha256').update(`${dev}:${ino}`).digest('hex').slice(0, 32);
  const server = await listen(`\0dstack-kms-${kind}-${name}`).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'EADDRINUSE') throw inUse;
    throw new KmsError(inUse.code, `The lock of ${directory} cannot be taken`, { cause });
  });
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

function listen(name: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    // Nobody has a reason to connect.
    const server = createServer((socket) => socket.destroy());
    server.once('error', reject);
    server.listen({ path: name, exclusive: true }, () => {
      server.unref();
      resolve(server);
    });
  });
}
