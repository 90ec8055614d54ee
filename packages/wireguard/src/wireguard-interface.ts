import { type ChildProcess, spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSynced } from '@dstack-cloud/files';
import { WireGuardError } from './errors.ts';
import { parseHandshakes } from './parse-handshakes.ts';
import { commandIn, runIn } from './run-in.ts';

const START_TIMEOUT_MS = 5_000;

export type InterfaceOptions = {
  /** At most 15 characters; unique on the machine, network namespaces included. */
  readonly name: string;
  /** With prefix, such as `10.0.0.1/24`. */
  readonly address: string;
  /** The key that an interface which is there may have, base64; undefined when whatever has the name is ours. */
  readonly publicKey?: string;
  /** Folder for the configuration file, 0700. */
  readonly folder: string;
  /** `kernel`, `userspace`, or the kernel's where it has WireGuard. */
  readonly driver: 'auto' | 'kernel' | 'userspace';
  /** Where it is made; undefined for our own network namespace. */
  readonly namespace?: string;
};

/** A WireGuard interface that is up. */
export type WireGuardInterface = {
  readonly driver: 'kernel' | 'userspace';
  /** Whether it was there, with the tunnels that it has. */
  readonly isKept: boolean;
  /** Makes it as the text of wg(8) says; tunnels that stay the same live on. */
  configure(text: string): Promise<void>;
  set(words: readonly string[]): Promise<void>;
  /** Unix seconds of the latest handshake by key; 0 for none. */
  handshakes(): Promise<ReadonlyMap<string, number>>;
  /** Ends `wireguard-go`. An interface of the kernel stays, so that tunnels live over a restart. */
  close(): Promise<void>;
};

/**
 * Makes an interface and starts it. One that is there already is used with the tunnels that it has, if it has our key or none:
 * that of somebody else is left alone.
 * @throws WireGuardError when the host has no WireGuard, the interface is somebody else's, or a program fails
 */
export async function openInterface(options: InterfaceOptions): Promise<WireGuardInterface> {
  const { name, address, folder, namespace } = options;
  if (!/^[a-zA-Z0-9_-]{1,15}$/.test(name))
    throw new WireGuardError(`${JSON.stringify(name)} is no name of an interface`);
  const command = (program: string, ...words: string[]) => runIn(namespace, program, words);
  const isThere = await isInterface(name, namespace);
  const hasKey = isThere && (await requireOurs(options));
  const made = isThere ? undefined : await makeInterface(options);
  try {
    // A killed start may have left it without them.
    await command('ip', 'address', 'replace', address, 'dev', name);
    await command('ip', 'link', 'set', name, 'up');
  } catch (error) {
    await made?.undo();
    throw error;
  }
  const path = join(folder, `${name}.conf`);
  return {
    driver: made?.driver ?? 'kernel',
    isKept: hasKey,
    configure: async (text) => {
      await rm(path, { force: true });
      // The private key is in it: a file that only we can read, and no argument that everybody sees.
      await writeSynced(path, text, 0o600);
      await command('wg', 'syncconf', name, path);
    },
    set: async (words) => void (await command('wg', 'set', name, ...words)),
    handshakes: async () => parseHandshakes(await command('wg', 'show', name, 'latest-handshakes')),
    close: async () => {
      if (made?.driver === 'userspace') await made.undo();
      await rm(path, { force: true });
    },
  };
}

/** @returns whether it has our key; without one nobody uses it yet */
async function requireOurs({ name, publicKey, namespace }: InterfaceOptions): Promise<boolean> {
  const key = (await runIn(namespace, 'wg', ['show', name, 'public-key'])).trim();
  if (publicKey === undefined || key === publicKey) return true;
  if (key === '(none)') return false;
  throw new WireGuardError(
    `The interface ${name} is there and has another key: name another interface, or remove this one`,
  );
}

type Made = { readonly driver: 'kernel' | 'userspace'; undo(): Promise<void> };

async function makeInterface({ name, driver, namespace }: InterfaceOptions): Promise<Made> {
  if (driver !== 'userspace') {
    try {
      await runIn(namespace, 'ip', ['link', 'add', name, 'type', 'wireguard']);
      return {
        driver: 'kernel',
        undo: async () => void (await runIn(namespace, 'ip', ['link', 'delete', name])),
      };
    } catch (error) {
      if (driver === 'kernel') throw error;
    }
  }
  const child = await startUserspace(name, namespace);
  return { driver: 'userspace', undo: () => endProcess(child) };
}

/** `wireguard-go` in the foreground, so that it ends with us; up when the interface is there. */
async function startUserspace(name: string, namespace: string | undefined): Promise<ChildProcess> {
  const [file, ...words] = commandIn(namespace, 'wireguard-go', ['-f', name]);
  const child = spawn(file!, words, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'], WG_PROCESS_FOREGROUND: '1', LOG_LEVEL: 'error' },
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk).slice(-1_000);
  });
  const ended = new Promise<never>((_, reject) => {
    child.once('error', (cause) =>
      reject(new WireGuardError('wireguard-go cannot be started; is it installed?', { cause })),
    );
    child.once('exit', () => reject(new WireGuardError(`wireguard-go ended: ${said.trim()}`)));
  });
  ended.catch(() => undefined);
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await Promise.race([isUp(name, namespace), ended]))) {
    if (performance.now() > deadline) {
      await endProcess(child);
      throw new WireGuardError(`wireguard-go made no interface ${name} in time`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return child;
}

/** There, and `wg` can talk to it. */
async function isUp(name: string, namespace: string | undefined): Promise<boolean> {
  try {
    await runIn(namespace, 'wg', ['show', name, 'public-key']);
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

async function isInterface(name: string, namespace: string | undefined): Promise<boolean> {
  try {
    await runIn(namespace, 'ip', ['link', 'show', name]);
    return true;
  } catch (error) {
    // Its exit code for an interface that does not exist; anything else is a fault.
    if (((error as Error).cause as { code?: unknown } | undefined)?.code === 1) return false;
    throw error;
  }
}
