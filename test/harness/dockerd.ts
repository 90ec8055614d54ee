/**
 * A Docker engine of the test's own: its own data, socket and pid, no change to the host's firewall, ended by pid.
 * Images are made from files of this machine, because no registry is reachable.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { findProgram } from '@dstack-cloud/test/requires';

export type Dockerd = {
  /** DOCKER_HOST and DOCKER_CONFIG for whoever uses this engine. */
  readonly env: Record<string, string>;
  /** Socket of the engine's containerd. */
  readonly containerd: string;
  stop(): Promise<void>;
};

const START_TIMEOUT_MS = 20_000;

/** Starts an engine; needs root, dockerd and docker-compose. */
export async function startDockerd(): Promise<Dockerd> {
  const directory = mkdtempSync(join(tmpdir(), 'dockerd-'));
  const socket = join(directory, 'docker.sock');
  const child = spawn(
    findProgram('dockerd') ?? 'dockerd',
    [
      ...['--data-root', join(directory, 'root'), '--exec-root', join(directory, 'exec')],
      ...['--pidfile', join(directory, 'pid'), '-H', `unix://${socket}`],
      ...['--iptables=false', '--ip-masq=false', '--ip-forward=false'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString('utf8')).slice(-4000);
  });
  const env = { DOCKER_HOST: `unix://${socket}`, DOCKER_CONFIG: composePlugin(directory) };
  const stop = () => stopDockerd(child, directory);
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!answers(env)) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`dockerd did not start: ${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return { env, containerd: join(directory, 'exec/containerd/containerd.sock'), stop };
}

function answers(env: Record<string, string>): boolean {
  try {
    docker(env, 'info');
    return true;
  } catch {
    return false;
  }
}

/** Runs `docker ARGS…` and returns what it printed. */
export function docker(env: Record<string, string>, ...args: string[]): string {
  const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe'];
  return execFileSync('docker', args, { env: { ...process.env, ...env }, stdio, timeout: 60_000 }).toString();
}

/** Debian has docker-compose 1.29 alone; `docker compose` finds it through this plugin. */
function composePlugin(directory: string): string {
  const plugins = join(directory, 'config', 'cli-plugins');
  mkdirSync(plugins, { recursive: true });
  const metadata =
    '{"SchemaVersion":"0.1.0","Vendor":"test","Version":"1.29.2","ShortDescription":"compose"}';
  const script = `#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then echo '${metadata}'; exit 0; fi
[ "$1" = compose ] && shift
exec ${findProgram('docker-compose') ?? 'docker-compose'} "$@"
`;
  const path = join(plugins, 'docker-compose');
  writeFileSync(path, script);
  chmodSync(path, 0o755);
  return join(directory, 'config');
}

async function stopDockerd(child: ChildProcess, directory: string): Promise<void> {
  if (child.exitCode === null) {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
    await ended;
    clearTimeout(timer);
  }
  releaseNamespaces(join(directory, 'exec/netns'));
  rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
}

/** An engine that ran a container in the network of the host leaves that namespace mounted. */
function releaseNamespaces(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    try {
      execFileSync('umount', [join(folder, name)], { stdio: 'ignore' });
    } catch {
      // A plain file.
    }
}

/** An image `tag` with this machine's node and the unchanged npm SDK. */
export function importNodeImage(env: Record<string, string>, tag: string): void {
  const directory = mkdtempSync(join(tmpdir(), 'image-'));
  try {
    const root = join(directory, 'rootfs');
    mkdirSync(join(root, 'bin'), { recursive: true });
    for (const folder of ['tmp', 'etc', 'app', 'proc', 'dev', 'var/run'])
      mkdirSync(join(root, folder), { recursive: true });
    copyFileSync(process.execPath, join(root, 'bin/node'));
    for (const library of libraries(process.execPath)) {
      mkdirSync(join(root, dirname(library)), { recursive: true });
      copyFileSync(library, join(root, library));
    }
    copySdk(join(root, 'app/node_modules'));
    execFileSync(
      'sh',
      ['-c', 'tar -C "$1" -c . | docker import -c "ENV PATH=/bin" -c "WORKDIR /app" - "$2"', 'sh', root, tag],
      { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit'], timeout: 120_000 },
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function libraries(program: string): string[] {
  const output = execFileSync('ldd', [program]).toString();
  return [...output.matchAll(/(\/\S+)\s+\(0x/g)].map((match) => match[1] ?? '');
}

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
      filter: (path) => basename(path) !== 'node_modules' || path === folder,
    });
    const { dependencies = {} } = require(join(folder, 'package.json')) as {
      dependencies?: Record<string, string>;
    };
    // Peers first: the SDK's curve library is a peer, in the version that lies beside it.
    pending.push(
      ...Object.keys(dependencies),
      ...(name === '@phala/dstack-sdk' ? ['@noble/curves', '@noble/hashes'] : []),
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
