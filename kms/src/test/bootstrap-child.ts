/**
 * A bootstrap that ends its own process with SIGKILL at the n-th file operation; for the kill test. Writes the number
 * of operations when it gets to its end.
 */
import { generateP256Key, k256PublicKey } from '@dstack-cloud/keys';
import { commitKeyFiles, recoverKeyDirectory } from '../key-directory/commit.ts';
import {
  generateRoot,
  generateSharedKeys,
  historyFilesOf,
  issueRpcCertificate,
  keyFilesOf,
  keysFor,
} from '../key-directory/new-keys.ts';
import { dyingFileSystem } from './dying-fs.ts';

const [directory = '', at = '0', when = 'before'] = process.argv.slice(2);
const { fs, operations } = dyingFileSystem(Number(at), when);

await recoverKeyDirectory(directory, fs);
// As a replica gets them: with a retired root.
const shared = { ...generateSharedKeys(), history: [generateRoot()] };
const info = {
  caPubkey: generateP256Key().spki,
  k256Pubkey: k256PublicKey(shared.k256),
  attestation: new Uint8Array(),
};
const keys = keysFor(shared, 'kms.example.com', 1_795_000_000, info);
const certificate = await issueRpcCertificate(keys, 1_795_000_000, undefined);
await commitKeyFiles(directory, keyFilesOf(keys, certificate), fs, historyFilesOf(keys));
process.stdout.write(String(operations()));
