// `npm run setup`: what the tests need, on a machine that may be new. Plain JavaScript, because it runs before
// anything is installed. It never fails for a missing system package: it names it, and the tests that need it
// are skipped with that reason.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { installVhostDevice, VHOST_DEVICE } from './setup/vhost-device-vsock.mjs';

/** Debian package, the program it brings, and what is tested with it. */
const systemPackages = [
  { name: 'openssl', program: 'openssl', use: 'certificates read by a second implementation' },
  { name: 'swtpm', program: 'swtpm', use: 'vTPM evidence on a real TPM' },
  { name: 'swtpm-tools', program: 'swtpm_setup', use: 'vTPM evidence on a real TPM' },
  // The tools reach a software TPM through a library of its own, which they only recommend.
  {
    name: 'tpm2-tools',
    libraries: ['libtss2-tcti-swtpm0'],
    program: 'tpm2_checkquote',
    use: 'our TPM client against the reference one',
  },
  { name: 'docker.io', program: 'dockerd', use: 'applications in containers' },
  { name: 'docker-compose', program: 'docker-compose', use: 'applications in containers' },
  { name: 'chromium', program: 'chromium', use: 'the verifier in a browser' },
  {
    name: 'cryptsetup-bin',
    program: 'cryptsetup',
    use: 'disk headers and verity trees against the reference tools',
  },
  { name: 'gdisk', program: 'sgdisk', use: 'partition tables against the reference tool' },
  { name: 'dosfstools', program: 'fsck.fat', use: 'FAT volumes against the reference tools' },
  { name: 'mtools', program: 'mtype', use: 'FAT volumes against the reference tools' },
  { name: 'qemu-system-x86', program: 'qemu-system-x86_64', use: 'virtual machines' },
  { name: 'pebble', program: 'pebble', use: 'certificates by a real authority' },
  { name: 'knot', program: 'knotd', use: 'certificates over a real zone' },
  { name: 'wireguard-tools', program: 'wg', use: 'tunnels of the gateway' },
  { name: 'wireguard-go', program: 'wireguard-go', use: 'tunnels of the gateway' },
  { name: 'etcd-server', program: 'etcd', use: 'several nodes of the gateway' },
  { name: 'openssh-server', program: 'sshd', use: 'commands by SSH to a real server' },
  { name: 'qemu-utils', program: 'qemu-img', use: 'virtual machines' },
  { name: 'ovmf', file: '/usr/share/OVMF/OVMF_CODE.fd', use: 'the measured boot of virtual machines' },
  { name: 'squashfs-tools', program: 'unsquashfs', use: 'root file systems against the reference tool' },
  { name: 'cpio', program: 'cpio', use: 'initramfs archives against the reference tool' },
  { name: 'binutils', program: 'objdump', use: 'kernel images against the reference tool' },
];

function onPath(program) {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return directories.some((directory) => existsSync(join(directory, program)));
}

function isThere({ program, file }) {
  return file === undefined ? onPath(program) : existsSync(file);
}

function run(command, args, options = {}) {
  console.log(`> ${command} ${args.join(' ')}`);
  return spawnSync(command, args, { stdio: 'inherit', ...options }).status === 0;
}

function installMissing() {
  const missing = systemPackages.filter((one) => !isThere(one));
  if (missing.length === 0) return [];
  if (process.platform !== 'linux' || !onPath('apt-get')) return missing;
  const sudo = process.getuid?.() === 0 ? [] : ['sudo', '-n'];
  const apt = (...args) => {
    const [command, ...rest] = [...sudo, 'apt-get', '-q', '-o', 'Dpkg::Use-Pty=0', ...args];
    return run(command, rest, { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
  };
  if (!apt('update')) return missing;
  const names = missing.flatMap(({ name, libraries = [] }) => [name, ...libraries]);
  // One call is fastest; if one package is not to be had, the others must not be lost with it.
  if (!apt('install', '-y', '--no-install-recommends', ...names)) {
    for (const name of names) apt('install', '-y', '--no-install-recommends', name);
  }
  return missing.filter((one) => !isThere(one));
}

if (!run('npm', ['ci'])) process.exit(1);
const absent = installMissing();
if (!onPath(VHOST_DEVICE) && !installVhostDevice())
  absent.push({ name: VHOST_DEVICE, use: 'virtual machines' });
for (const { name, use } of absent) {
  console.log(`setup: "${name}" could not be installed; tests of ${use} are skipped`);
}
console.log(`setup: ready${absent.length ? `, without ${absent.map(({ name }) => name).join(', ')}` : ''}`);
