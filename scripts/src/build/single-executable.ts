import { execFile } from 'node:child_process';
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  open,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryName } from '@dstack-cloud/files';
import { build, type Plugin } from 'esbuild';
import { inject } from 'postject';
import { BUNDLE_OPTIONS } from './bundle-programs.ts';

const run = promisify(execFile);

const SOURCE = 'packages/util/src/single-main.ts';
/** Names that it is started by, beside its own. */
const OTHER_NAMES = ['dstack-enclave-init'];
/** Where Node looks for the program, and the mark that says it is there (https://nodejs.org/api/single-executable-applications.html). */
const RESOURCE = 'NODE_SEA_BLOB';
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';
const NATIVE = 'koffi.node';
/** How much of an executable names its loader. */
const HEAD_BYTES = 64 * 1024;

/** The loader of native code reads files alone, so it gets one that is gone a moment later. */
const KOFFI = `
const { getRawAsset } = require('node:sea');
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const folder = mkdtempSync(join(tmpdir(), 'dstack-native-'));
try {
  const file = join(folder, '${NATIVE}');
  writeFileSync(file, new Uint8Array(getRawAsset('${NATIVE}')), { mode: 0o600, flag: 'wx' });
  process.dlopen(module, file);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
`;

/** Replaces the package by the native module that the executable holds; its JavaScript only adds names that are out of date. */
const embeddedKoffi: Plugin = {
  name: 'embedded-koffi',
  setup: (bundle) => {
    bundle.onResolve({ filter: /^koffi$/ }, () => ({ path: NATIVE, namespace: 'embedded' }));
    bundle.onLoad({ filter: /./, namespace: 'embedded' }, () => ({ contents: KOFFI, loader: 'js' }));
  },
};

/**
 * Makes `dstack-util` and `dstack-enclave-init` one file that needs no Node beside it (docs/decisions/021-single-executable.md).
 * The same sources and the same Node give the same bytes: an enclave's registers depend on them.
 *
 * @param options.node the Node that it is made of; it must run here
 * @param options.output file to write; links with the other names are put beside it
 */
export async function makeSingleExecutable(options: {
  readonly repository: string;
  readonly node?: string;
  readonly output: string;
}): Promise<void> {
  const { repository, node = process.execPath, output } = options;
  const staged = join(dirname(output), temporaryName(basename(output)));
  const work = await mkdtemp(join(tmpdir(), 'dstack-single-'));
  try {
    await writeFile(join(work, 'main.cjs'), await commonJs(repository));
    const config = {
      // Kept in the executable, so without the folder's name.
      main: 'main.cjs',
      output: 'blob',
      disableExperimentalSEAWarning: true,
      // V8 writes another code cache each time.
      useCodeCache: false,
      assets: { [NATIVE]: await nativeModule(repository, node) },
    };
    await writeFile(join(work, 'config.json'), JSON.stringify(config));
    await run(node, ['--experimental-sea-config', 'config.json'], { cwd: work });
    await mkdir(dirname(output), { recursive: true });
    await copyFile(node, staged);
    await chmod(staged, 0o755);
    await inject(staged, RESOURCE, await readFile(join(work, 'blob')), { sentinelFuse: FUSE });
    await rename(staged, output);
  } finally {
    await rm(work, { recursive: true, force: true });
    await rm(staged, { force: true });
  }
  for (const name of OTHER_NAMES) {
    const link = join(dirname(output), name);
    await rm(link, { force: true });
    await symlink(basename(output), link);
  }
}

async function commonJs(repository: string): Promise<Uint8Array> {
  const { outputFiles } = await build({
    ...BUNDLE_OPTIONS,
    absWorkingDir: repository,
    entryPoints: [SOURCE],
    format: 'cjs',
    banner: { js: "const __url=require('node:url').pathToFileURL(process.execPath).href;" },
    define: { 'import.meta.url': '__url' },
    external: (BUNDLE_OPTIONS.external ?? []).filter((name) => name !== 'koffi'),
    plugins: [embeddedKoffi],
    write: false,
  });
  return outputFiles[0]!.contents;
}

/** The native module for the libc of a Node. */
async function nativeModule(repository: string, node: string): Promise<string> {
  const file = await open(node, 'r');
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    const { bytesRead } = await file.read(head, 0, HEAD_BYTES, 0);
    const folder = head.subarray(0, bytesRead).includes('/ld-musl-') ? 'musl_x64' : 'linux_x64';
    return join(repository, 'node_modules/@koromix/koffi-linux-x64', folder, NATIVE);
  } finally {
    await file.close();
  }
}
