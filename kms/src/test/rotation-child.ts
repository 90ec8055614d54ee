/** A change of root that ends its own process at the n-th file operation; see `bootstrap-child.ts`. */
import { recoverKeyDirectory } from '../key-directory/commit.ts';
import { commitRotation } from '../key-directory/commit-rotation.ts';
import { loadKeys } from '../key-directory/load-keys.ts';
import { makeRotation } from '../key-directory/make-rotation.ts';
import { generateRoot } from '../key-directory/new-keys.ts';
import { dyingFileSystem } from './dying-fs.ts';

const NOW = 1_795_000_000;
const [directory = '', at = '0', when = 'before'] = process.argv.slice(2);
const { fs, operations } = dyingFileSystem(Number(at), when);

await recoverKeyDirectory(directory, fs);
const keys = await loadKeys(directory, { now: NOW });
const { rotation } = await makeRotation(keys, generateRoot(), NOW, undefined);
await commitRotation(directory, rotation, fs);
process.stdout.write(String(operations()));
