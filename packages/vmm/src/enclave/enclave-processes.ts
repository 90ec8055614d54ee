import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VmmError } from '../errors.ts';

/** How an enclave of this host runs, for whoever reads a status. */
export const HOW_ENCLAVES_RUN =
  "SIMULATED: the image's own files as processes of this host in namespaces (mount, network, PID), with this host's kernel and a simulated security module";

/** Folder of the enclave with what stands for its devices. */
const DEVICES = '/dev/host';
const NEEDED = ['sh', 'unshare', 'mount', 'chroot', 'env', 'mkdir', 'ln'];
/** Of the host; the enclave's programs have their image's. */
const HOST_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** What the enclave's init sets when the image says nothing. */
const DEFAULT_PATH = 'PATH=/sbin:/usr/sbin:/bin:/usr/bin';

/** Mounts what the init of AWS mounts, then starts the application. */
const SCRIPT = `
set -e
root=$1; devices=$2; shift 2
mount --make-rprivate /
mkdir -p "$root/dev" "$root/proc" "$root/run" "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
  : > "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir -m 1777 "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/host"
mount --bind "$devices" "$root/dev/host"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
exec "$@"
`;

/** Absolute path of a program of this host. */
function hostProgram(name: string): string | undefined {
  return HOST_PATH.split(':')
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** @throws VmmError `program_missing` */
export function requireEnclavePrograms(): void {
  const missing = NEEDED.filter((name) => hostProgram(name) === undefined);
  if (missing.length > 0)
    throw new VmmError(
      'program_missing',
      `An enclave on this host needs ${missing.join(', ')} (util-linux, coreutils)`,
      {
        expected: NEEDED.join(', '),
        found: `no ${missing.join(', ')}`,
      },
    );
}

/**
 * The command that runs the application of an image. Nobody but the host's proxy is reached from inside: the network
 * namespace is empty.
 *
 * @param mark line of the environment that every process of the machine has
 */
export function enclaveCommand(options: {
  readonly root: string;
  readonly devices: string;
  readonly command: readonly string[];
  readonly environment: readonly string[];
  readonly mark: string;
}): string[] {
  const { root, devices, command, environment, mark } = options;
  const own = [`DSTACK_NSM=unix:${DEVICES}/nsm.sock`, `DSTACK_VSOCK=guest:${DEVICES}/vm.vsock`, mark];
  const given = environment.filter((line) => /^[^=]+=/.test(line));
  const path = given.some((line) => line.startsWith('PATH=')) ? [] : [DEFAULT_PATH];
  // Root of this host needs no user namespace, and may be forbidden one.
  const user = process.geteuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  return [
    ...['unshare', ...user, '--mount', '--net', '--pid', '--fork', '--kill-child'],
    ...['sh', '-c', SCRIPT, 'sh', root, devices],
    ...['env', '-i', ...path, ...given, ...own],
    // With the image's PATH it would not be found.
    ...[hostProgram('chroot') ?? 'chroot', root, ...command],
  ];
}

/** Environment of the programs of this host that prepare it. */
export function hostEnvironment(): NodeJS.ProcessEnv {
  return { PATH: HOST_PATH };
}

/** First process of the enclave, which `unshare` waits for; undefined when it is not there (yet). */
export function firstProcess(unshare: number): number | undefined {
  try {
    const [child] = readFileSync(`/proc/${unshare}/task/${unshare}/children`, 'utf8').trim().split(' ');
    return child === undefined || child === '' ? undefined : Number(child);
  } catch {
    return undefined;
  }
}
