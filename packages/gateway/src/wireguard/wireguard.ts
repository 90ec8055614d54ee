import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { writeSynced } from '@dstack-cloud/files';
import { GatewayError } from '../errors.ts';
import { type WireGuardPeer, wireGuardConfig } from './config-text.ts';

const run = promisify(execFile);

/** Changes that come together are given to `wg` in one command. */
const COALESCE_MS = 50;
/** Peers in one command: each takes about 100 bytes of the 128 KiB that one argument list may have (execve(2)). */
const PEERS_PER_COMMAND = 500;
const COMMAND_TIMEOUT_MS = 10_000;
const START_TIMEOUT_MS = 5_000;
const MAX_OUTPUT = 16 * 2 ** 20;

export type WireGuardOptions = {
  /** At most 15 characters; unique on the machine, network namespaces included. */
  readonly interfaceName: string;
  /** Both base64. */
  readonly privateKey: string;
  readonly publicKey: string;
  readonly listenPort: number;
  /** With prefix, such as `10.0.0.1/24`. */
  readonly address: string;
  /** Folder for the configuration file, 0700. */
  readonly folder: string;
  /** `kernel`, `userspace`, or the kernel's where it has WireGuard. */
  readonly driver: 'auto' | 'kernel' | 'userspace';
  readonly onError: (error: GatewayError) => void;
};

/** The gateway's end of all tunnels. */
export type WireGuard = {
  readonly driver: 'kernel' | 'userspace';
  /** Makes the tunnel of a guest, or gives it another address; done within a tenth of a second. */
  set(peer: WireGuardPeer): void;
  remove(publicKey: string): void;
  /** Makes the interface have these peers and no other. */
  reconcile(peers: Iterable<WireGuardPeer>): Promise<void>;
  /** Unix seconds of the latest handshake by key; 0 for none. */
  handshakes(): Promise<ReadonlyMap<string, number>>;
  /** Ends `wireguard-go`. An interface of the kernel stays, so that tunnels live over a restart of the gateway. */
  close(): Promise<void>;
};

/**
 * Makes the interface and starts it. One that is there already is used with the tunnels that it has, if it has our key or none:
 * that of somebody else is left alone.
 * @throws GatewayError `wireguard` when the host has no WireGuard, the interface is somebody else's, or a program fails
 */
export async function startWireGuard(options: WireGuardOptions): Promise<WireGuard> {
  const { interfaceName: name, address, onError } = options;
  if (!/^[a-zA-Z0-9_-]{1,15}$/.test(name))
    throw failure(`${JSON.stringify(name)} is no name of an interface`);
  const isKept = await isThere(name);
  const hasKey = isKept && (await requireOurs(options));
  const made = isKept ? undefined : await makeInterface(options);
  try {
    // A killed start may have left it without them.
    await command('ip', ['address', 'replace', address, 'dev', name]);
    await command('ip', ['link', 'set', name, 'up']);
    if (!hasKey) await sync(options, []);
  } catch (error) {
    await made?.undo();
    throw error;
  }

  /** What is still to be told; an address, or that the peer is gone. */
  let pending = new Map<string, string | undefined>();
  let timer: NodeJS.Timeout | undefined;
  /** One command after the other: two at once would end in any order. */
  let last: Promise<void> = Promise.resolve();

  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const turn = last.then(work);
    last = turn.catch(() => undefined);
    return turn;
  };

  const flush = async (): Promise<void> => {
    const changes = [...pending];
    pending = new Map();
    for (let start = 0; start < changes.length; start += PEERS_PER_COMMAND) {
      const part = changes.slice(start, start + PEERS_PER_COMMAND);
      await command('wg', ['set', name, ...part.flatMap(([key, ip]) => peerArguments(key, ip))]);
    }
  };

  const change = (publicKey: string, ip: string | undefined): void => {
    pending.set(publicKey, ip);
    timer ??= setTimeout(() => {
      timer = undefined;
      inTurn(flush).catch((error: unknown) => onError(error as GatewayError));
    }, COALESCE_MS);
  };

  return {
    driver: made?.driver ?? 'kernel',
    set: ({ publicKey, ip }) => change(publicKey, ip),
    remove: (publicKey) => change(publicKey, undefined),
    reconcile: (peers) => {
      const list = [...peers];
      return inTurn(async () => {
        pending = new Map();
        await sync(options, list);
      });
    },
    handshakes: async () => parseHandshakes(await command('wg', ['show', name, 'latest-handshakes'])),
    close: async () => {
      clearTimeout(timer);
      await last;
      if (made?.driver === 'userspace') await made.undo();
      await rm(configPath(options), { force: true });
    },
  };
}

/** Reads the output of `wg show <interface> latest-handshakes`. */
export function parseHandshakes(output: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const line of output.split('\n')) {
    const [key, seconds] = line.split('\t');
    if (key && seconds && /^\d+$/.test(seconds)) found.set(key, Number(seconds));
  }
  return found;
}

/** @returns whether it has our key; without one nobody uses it yet */
async function requireOurs({ interfaceName: name, publicKey }: WireGuardOptions): Promise<boolean> {
  const key = (await command('wg', ['show', name, 'public-key'])).trim();
  if (key === publicKey) return true;
  if (key === '(none)') return false;
  throw failure(
    `The interface ${name} is there and has another key: name another one in core.wg.interface, or remove it`,
  );
}

type Made = { readonly driver: 'kernel' | 'userspace'; undo(): Promise<void> };

async function makeInterface({ interfaceName: name, driver }: WireGuardOptions): Promise<Made> {
  if (driver !== 'userspace') {
    try {
      await command('ip', ['link', 'add', name, 'type', 'wireguard']);
      return { driver: 'kernel', undo: async () => void (await command('ip', ['link', 'delete', name])) };
    } catch (error) {
      if (driver === 'kernel') throw error;
    }
  }
  const child = await startUserspace(name);
  return { driver: 'userspace', undo: () => endProcess(child) };
}

/** `wireguard-go` in the foreground, so that it ends with us; up when the interface is there. */
async function startUserspace(name: string): Promise<ChildProcess> {
  const child = spawn('wireguard-go', ['-f', name], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'], WG_PROCESS_FOREGROUND: '1', LOG_LEVEL: 'error' },
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk).slice(-1_000);
  });
  const ended = new Promise<never>((_, reject) => {
    child.once('error', (cause) =>
      reject(failure('wireguard-go cannot be started; is it installed?', cause)),
    );
    child.once('exit', () => reject(failure(`wireguard-go ended: ${said.trim()}`)));
  });
  ended.catch(() => undefined);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await Promise.race([isUp(name), ended]))) {
    if (performance.now() > deadline) {
      await endProcess(child);
      throw failure(`wireguard-go made no interface ${name} in time`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return child;
}

/** There, and `wg` can talk to it. */
async function isUp(name: string): Promise<boolean> {
  try {
    await run('wg', ['show', name, 'public-key'], { timeout: COMMAND_TIMEOUT_MS });
    return true;
  } catch {
    return false;
  }
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
  await exited;
  clearTimeout(timer);
}

async function isThere(name: string): Promise<boolean> {
  try {
    await run('ip', ['link', 'show', name], { timeout: COMMAND_TIMEOUT_MS });
    return true;
  } catch (error) {
    // Its exit code for an interface that does not exist; anything else is a fault.
    if ((error as { code?: unknown }).code === 1) return false;
    throw failure('ip(8) cannot be run', error);
  }
}

/** The whole configuration, private key included, by a file that only we can read. */
async function sync(options: WireGuardOptions, peers: Iterable<WireGuardPeer>): Promise<void> {
  const path = configPath(options);
  await rm(path, { force: true });
  await writeSynced(path, wireGuardConfig(options, peers), 0o600);
  await command('wg', ['syncconf', options.interfaceName, path]);
}

function configPath({ folder, interfaceName }: WireGuardOptions): string {
  return join(folder, `${interfaceName}.conf`);
}

function peerArguments(publicKey: string, ip: string | undefined): string[] {
  if (ip === undefined) return ['peer', publicKey, 'remove'];
  return ['peer', publicKey, 'allowed-ips', `${ip}/32`, 'persistent-keepalive', '25'];
}

async function command(program: string, input: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run(program, input, { timeout: COMMAND_TIMEOUT_MS, maxBuffer: MAX_OUTPUT });
    return stdout;
  } catch (cause) {
    const { stderr = '', code } = cause as { stderr?: string; code?: unknown };
    const why = code === 'ENOENT' ? 'it is not installed' : stderr.trim().slice(0, 300);
    throw failure(`${program} ${input.slice(0, 3).join(' ')} failed: ${why}`, cause);
  }
}

function failure(message: string, cause?: unknown): GatewayError {
  return new GatewayError('wireguard', message, { cause });
}
