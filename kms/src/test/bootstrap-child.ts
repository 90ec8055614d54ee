/**
 * A bootstrap that ends its own process with SIGKILL at the n-th file operation; for the kill test. Writes the number
 * of operations when it gets to its end.
 */
import { generateP256Key, k256PublicKey } from '@dstack-cloud/keys';
import { commitKeyFiles, recoverKeyDirectory } from '../key-directory/commit.ts';
import { type KeyFileSystem, nodeFileSystem } from '../key-directory/file-system.ts';
import { generateSharedKeys, issueRpcCertificate, keyFilesOf, keysFor } from '../key-directory/new-keys.ts';

const [directory = '', at = '0', when = 'before'] = process.argv.slice(2);
let operations = 0;

/** Counts an operation and dies before or after it. */
async function step<T>(run: () => Promise<T>): Promise<T> {
  operations += 1;
  const now = operations === Number(at);
  if (now && when === 'before') process.kill(process.pid, 'SIGKILL');
  try {
    return await run();
  } finally {
    if (now) process.kill(process.pid, 'SIGKILL');
  }
}

const counting = {
  mkdir: (...args: Parameters<typeof nodeFileSystem.mkdir>) => step(() => nodeFileSystem.mkdir(...args)),
  readdir: (path: string) => step(() => nodeFileSystem.readdir(path)),
  rename: (...args: Parameters<typeof nodeFileSystem.rename>) => step(() => nodeFileSystem.rename(...args)),
  rm: (...args: Parameters<typeof nodeFileSystem.rm>) => step(() => nodeFileSystem.rm(...args)),
  open: async (...args: Parameters<typeof nodeFileSystem.open>) => {
    const file = await step(() => nodeFileSystem.open(...args));
    return new Proxy(file, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        return (...inner: unknown[]) => step(() => value.apply(target, inner) as Promise<unknown>);
      },
    });
  },
} as unknown as KeyFileSystem;

await recoverKeyDirectory(directory, counting);
const shared = generateSharedKeys();
const info = {
  caPubkey: generateP256Key().spki,
  k256Pubkey: k256PublicKey(shared.k256),
  attestation: new Uint8Array(),
};
const keys = keysFor(shared, 'kms.example.com', 1_795_000_000, info);
const certificate = await issueRpcCertificate(keys, 1_795_000_000, undefined);
await commitKeyFiles(directory, keyFilesOf(keys, certificate), counting);
process.stdout.write(String(operations));
