/** A real `sshd` on loopback with keys and a configuration of its own. It lets this user in, by one key, and nobody else. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { findProgram } from './requires.ts';

/** As `ssh-keygen` names the kinds of keys, with a size where it takes one. */
export type KeyKind = 'ed25519' | 'ecdsa-256' | 'ecdsa-384' | 'ecdsa-521' | 'rsa-2048' | 'rsa-4096';

export interface Sshd {
  readonly port: number;
  readonly user: string;
  /** Path of the private key that is let in. */
  readonly loginKey: string;
  /** Lines of the host's `.pub` files. */
  readonly hostKeys: readonly string[];
  /** What it logged until now. */
  log(): string;
  /** Breaks all connections. */
  cut(): void;
  close(): Promise<void>;
}

/** @param options.forceCommand runs in the place of whatever is asked for, which is in `SSH_ORIGINAL_COMMAND` */
export async function startSshd(options: {
  readonly hostKeys: readonly KeyKind[];
  readonly forceCommand?: string;
}): Promise<Sshd> {
  const folder = mkdtempSync(join(tmpdir(), 'sshd-'));
  const { username } = userInfo();
  const hostKeys = options.hostKeys.map((kind) => makeKey(join(folder, `host-${kind}`), kind));
  const loginKey = makeKey(join(folder, 'login'), 'ed25519');
  writeFileSync(join(folder, 'authorized'), readFileSync(`${loginKey}.pub`), { mode: 0o600 });
  const config = join(folder, 'config');
  writeFileSync(
    config,
    [
      ...hostKeys.map((path) => `HostKey ${path}`),
      `AuthorizedKeysFile ${join(folder, 'authorized')}`,
      `AllowUsers ${username}`,
      'PermitRootLogin prohibit-password',
      'PasswordAuthentication no',
      'KbdInteractiveAuthentication no',
      // The folder of a test is below /tmp, which everybody may write to.
      'StrictModes no',
      'UsePAM no',
      'PermitTTY no',
      'AllowTcpForwarding no',
      ...(options.forceCommand === undefined ? [] : [`ForceCommand ${options.forceCommand}`]),
      '',
    ].join('\n'),
  );
  // Where it separates its privileges; Debian makes it when it starts the service.
  if (process.geteuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const program = findProgram('sshd') ?? 'sshd';
  const open = new Set<Socket>();
  const children = new Set<ReturnType<typeof spawn>>();
  let log = '';
  const server = createServer((near) => {
    // One process for each connection, as inetd would start it.
    const child = spawn(program, ['-i', '-e', '-o', 'LogLevel=VERBOSE', '-f', config], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    open.add(near);
    children.add(child);
    near.once('close', () => {
      open.delete(near);
      child.stdin.end();
      child.stdout.destroy();
    });
    near.on('error', () => near.destroy());
    child.stdin.on('error', () => near.destroy());
    child.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString();
    });
    child.once('exit', () => {
      children.delete(child);
      near.end();
    });
    near.pipe(child.stdin);
    child.stdout.pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    for (const stream of open) stream.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    user: username,
    loginKey,
    hostKeys: hostKeys.map((path) => readFileSync(`${path}.pub`, 'utf8').trim()),
    log: () => log,
    cut,
    close: async () => {
      cut();
      for (const child of children) child.kill();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Makes a pair of keys. @returns the path, which it has no default for */
export function makeKey(path: string, kind: KeyKind): string {
  const [type = '', bits] = kind.split('-');
  execFileSync('ssh-keygen', [
    ...['-q', '-t', type, '-N', '', '-C', '', '-f', path],
    ...(bits === undefined ? [] : ['-b', bits]),
  ]);
  return path;
}
