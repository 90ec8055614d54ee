/**
 * A Docker engine of the test's own: its own data, socket and pid, no change to the host's firewall, ended by pid.
 * Images are made from files of this machine, because no registry is reachable.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeNodeImage } from '@dstack-cloud/scripts/demo/node-image';
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
    const archive = join(directory, 'node.tar');
    writeNodeImage(archive, tag);
    docker(env, 'load', '--quiet', '--input', archive);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
