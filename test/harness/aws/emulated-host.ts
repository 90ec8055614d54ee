/**
 * A parent instance: root of a file system of its own in which scripts run that come by SSM. Shell, curl, tar and Node are real;
 * dnf, systemctl, journalctl and nitro-cli are those of `host-programs/`, and nothing opens a vsock.
 */
import { spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROGRAMS = fileURLToPath(new URL('./host-programs', import.meta.url));
const MAX_OUTPUT = 24_000;
const MAX_ERROR = 8_000;

/** Programs of this computer, read-only; the rest of the root is the instance's own. */
const SCRIPT = `
set -e
root=$1; node=$2; shift 2
mount --make-rprivate /
mount --bind /usr "$root/usr"
mount -o remount,ro,bind "$root/usr"
mount --bind "$root/local" "$root/usr/local"
mount --bind "$node" "$root/packages/node"
mount -t proc proc "$root/proc"
for name in null zero urandom; do : > "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"; done
ln -sfn /proc/self/fd "$root/dev/fd"
exec chroot "$root" /usr/bin/env -i PATH=/fake:/installed:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root /bin/sh "$@"
`;

/** Writes a program that runs what a login by SSH asks for on the newest of the hosts in a folder. @returns its path */
export function loginProgram(hosts: string, path: string): string {
  const quoted = `'${SCRIPT.replaceAll("'", "'\\''")}'`;
  const text = `#!/bin/sh
root=$(ls -dt ${hosts}/i-* | head -n 1)
exec unshare --mount sh -c ${quoted} sh "$root" ${process.execPath} -c "$SSH_ORIGINAL_COMMAND"
`;
  writeFileSync(path, text, { mode: 0o755 });
  return path;
}

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class EmulatedHost {
  readonly root: string;

  constructor(root: string, options: { readonly hasEnclaves: boolean }) {
    this.root = root;
    for (const name of [
      'usr',
      'local/bin',
      'local/lib',
      'proc',
      'dev',
      'etc/systemd/system',
      'opt',
      'run/units',
      'tmp',
      'var/log',
      'root',
      'packages',
      'installed',
      'fake',
    ])
      mkdirSync(join(root, name), { recursive: true });
    for (const name of ['bin', 'sbin', 'lib', 'lib64'])
      cpSync(`/${name}`, join(root, name), { verbatimSymlinks: true, recursive: false, force: true });
    for (const name of ['dnf', 'systemctl', 'journalctl']) {
      cpSync(join(PROGRAMS, name), join(root, 'fake', name));
      chmodSync(join(root, 'fake', name), 0o755);
    }
    cpSync(join(PROGRAMS, 'nitro-cli.mjs'), join(root, 'packages/nitro-cli'));
    chmodSync(join(root, 'packages/nitro-cli'), 0o755);
    writeFileSync(join(root, 'packages/node'), '');
    if (options.hasEnclaves) writeFileSync(join(root, 'dev/nitro_enclaves'), '');
  }

  /** Runs a script as the agent of SSM does. */
  async run(script: string): Promise<Ran> {
    writeFileSync(join(this.root, 'script'), script);
    const child = spawn(
      'unshare',
      ['--mount', 'sh', '-c', SCRIPT, 'sh', this.root, process.execPath, '/script'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      },
    );
    const out = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const)
      child[name].on('data', (chunk: Buffer) => {
        out[name] += chunk.toString();
      });
    const code = await new Promise<number>((resolve) => child.once('exit', (status) => resolve(status ?? 1)));
    return { code, stdout: out.stdout.slice(0, MAX_OUTPUT), stderr: out.stderr.slice(0, MAX_ERROR) };
  }

  /** A file of the instance, or undefined. */
  read(path: string): string | undefined {
    const file = join(this.root, path);
    return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  }

  /** What runs, as its nitro-cli says. */
  enclaves(): Record<string, unknown>[] {
    return JSON.parse(this.read('run/enclaves.json') ?? '[]') as Record<string, unknown>[];
  }

  /** Power off: what ran runs no more. */
  powerOff(): void {
    for (const name of readdirSync(join(this.root, 'run/units')).filter((one) => one.endsWith('.pid'))) {
      try {
        process.kill(-Number(this.read(`run/units/${name}`)));
      } catch {
        // It ended by itself.
      }
      rmSync(join(this.root, 'run/units', name));
    }
    rmSync(join(this.root, 'run/enclaves.json'), { force: true });
  }
}
