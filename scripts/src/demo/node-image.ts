import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

/**
 * Writes an archive for `docker load` with one image: this machine's node, the libraries that it needs, and the unchanged npm
 * SDK. It needs neither an engine nor a registry.
 */
export function writeNodeImage(path: string, tag: string): void {
  const directory = mkdtempSync(join(tmpdir(), 'dstack-image-'));
  try {
    const root = join(directory, 'rootfs');
    for (const folder of ['bin', 'tmp', 'etc', 'data', 'proc', 'dev', 'var/run'])
      mkdirSync(join(root, folder), { recursive: true });
    copyFileSync(process.execPath, join(root, 'bin/node'));
    for (const library of libraries(process.execPath)) {
      mkdirSync(join(root, dirname(library)), { recursive: true });
      copyFileSync(library, join(root, library));
    }
    // Where a file of compose.yaml's configs with a relative target lies: at the root (Compose Specification, "configs").
    copySdk(join(root, 'node_modules'));
    archive(directory, root, path, tag);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The form that `docker save` writes: a manifest, a configuration, one layer. */
function archive(directory: string, root: string, path: string, tag: string): void {
  const tar = (folder: string, file: string, names: readonly string[]): void => {
    execFileSync('tar', ['-C', folder, '--owner=0', '--group=0', '-cf', file, ...names], { stdio: 'ignore' });
  };
  const layer = join(directory, 'layer.tar');
  tar(root, layer, ['.']);
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/bin'], WorkingDir: '/' },
    rootfs: {
      type: 'layers',
      diff_ids: [`sha256:${createHash('sha256').update(readFileSync(layer)).digest('hex')}`],
    },
  };
  const manifest = [{ Config: 'config.json', RepoTags: [tag], Layers: ['layer.tar'] }];
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config));
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  tar(directory, path, ['manifest.json', 'config.json', 'layer.tar']);
}

function libraries(program: string): string[] {
  const output = execFileSync('ldd', [program]).toString();
  return [...output.matchAll(/(\/\S+)\s+\(0x/g)].map((match) => match[1] ?? '');
}

/** Packages nested in others, and of viem what no CommonJS program reads. */
const LEFT_OUT = new Set(['node_modules', '_esm', '_types']);

/** The SDK and what it imports, as npm installed them. */
function copySdk(target: string): void {
  const require = createRequire(import.meta.url);
  const pending = ['@phala/dstack-sdk'];
  const seen = new Set<string>();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (seen.has(name)) continue;
    seen.add(name);
    const folder = packageFolder(require, name);
    if (folder === undefined) continue;
    cpSync(folder, join(target, name), {
      recursive: true,
      dereference: true,
      filter: (path) => path === folder || !LEFT_OUT.has(basename(path)),
    });
    const { dependencies = {} } = require(join(folder, 'package.json')) as {
      dependencies?: Record<string, string>;
    };
    // Peers first: the SDK's curve library is a peer, in the version that lies beside it. The template's service also
    // makes an account of the key.
    pending.push(
      ...Object.keys(dependencies),
      ...(name === '@phala/dstack-sdk' ? ['viem', '@noble/curves', '@noble/hashes'] : []),
    );
  }
}

function packageFolder(require: NodeJS.Require, name: string): string | undefined {
  const roots = require.resolve.paths(name) ?? [];
  for (const root of roots) {
    try {
      require(join(root, name, 'package.json'));
      return join(root, name);
    } catch {
      // Not here; look further up, as node does.
    }
  }
  return undefined;
}
