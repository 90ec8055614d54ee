// The program that gives a virtual machine vsock without the host's kernel. Debian has it in a later release only, so
// it is taken out of that package, checked by its hash, and put where programs of this repository look for it; where the
// package is not served any more, it is built from the crate of the same version.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

export const VHOST_DEVICE = 'vhost-device-vsock';
const CRATE_VERSION = '0.3.0';
const PACKAGE = {
  suite: 'forky',
  version: '0.3.0-2',
  sha256: 'fd36382419cc174f00d9b1691486b581e13e8c1168dc339b86b2a65180a29ce7',
};
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

const cached = join(homedir(), '.cache/dstack-cloud/bin', VHOST_DEVICE);

/** Puts it into the cache. @returns whether it is there and runs */
export function installVhostDevice() {
  if (runs(cached)) return true;
  const directory = mkdtempSync(join(tmpdir(), 'vhost-device-'));
  try {
    const found = fromPackage(directory) ?? fromCrate(directory);
    if (found === undefined) return false;
    mkdirSync(join(cached, '..'), { recursive: true });
    // Complete or not there, whenever this ends.
    const partial = `${cached}.${process.pid}`;
    copyFileSync(found, partial);
    chmodSync(partial, 0o755);
    renameSync(partial, cached);
    return true;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function fromPackage(directory) {
  if (process.arch !== 'x64' || !existsSync(KEYRING)) return undefined;
  const mirror = configuredMirror();
  if (mirror === undefined) return undefined;
  for (const folder of [
    'etc/apt.conf.d',
    'etc/preferences.d',
    'state/lists/partial',
    'cache/archives/partial',
  ])
    mkdirSync(join(directory, folder), { recursive: true });
  const { suite, version, sha256 } = PACKAGE;
  writeFileSync(join(directory, 'etc/sources.list'), `deb [signed-by=${KEYRING}] ${mirror} ${suite} main\n`);
  const configuration = [
    `Dir "${directory}/";`,
    'Dir::Etc "etc/";',
    'Dir::State "state/";',
    'Dir::State::status "/dev/null";',
    'Dir::Cache "cache/";',
    'APT::Architecture "amd64";',
    'APT::Architectures { "amd64"; };',
    'APT::Sandbox::User "";',
    'Acquire::Languages "none";',
    'Acquire::Retries "3";',
    // How old the list is does not matter: the hash below says which package it must be.
    'Acquire::Check-Valid-Until "false";',
    '',
  ];
  writeFileSync(join(directory, 'apt.conf'), configuration.join('\n'));
  const env = { ...process.env, APT_CONFIG: join(directory, 'apt.conf'), LC_ALL: 'C.UTF-8' };
  const run = (command, args) =>
    spawnSync(command, args, { cwd: directory, env, stdio: 'ignore' }).status === 0;
  if (!run('apt-get', ['update'])) return undefined;
  if (!run('apt-get', ['download', `${VHOST_DEVICE}=${version}`])) return undefined;
  const name = readdirSync(directory).find((file) => file.endsWith('.deb'));
  if (name === undefined) return undefined;
  const archive = join(directory, name);
  const found = createHash('sha256').update(readFileSync(archive)).digest('hex');
  if (found !== sha256) {
    console.log(`setup: ${name} has SHA-256 ${found}, expected ${sha256}; it is not used`);
    return undefined;
  }
  const program = join(directory, 'root/usr/bin', VHOST_DEVICE);
  return run('dpkg-deb', ['-x', archive, join(directory, 'root')]) && runs(program) ? program : undefined;
}

/** Cargo holds what it downloads to the hashes of its index, and dependencies to those of the crate's lock file. */
function fromCrate(directory) {
  const args = [
    'install',
    '--quiet',
    '--locked',
    '--version',
    CRATE_VERSION,
    '--root',
    directory,
    VHOST_DEVICE,
  ];
  if (spawnSync('cargo', args, { stdio: ['ignore', 'inherit', 'inherit'] }).status !== 0) return undefined;
  const program = join(directory, 'bin', VHOST_DEVICE);
  return runs(program) ? program : undefined;
}

function runs(program) {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** The mirror in the machine's own apt configuration; both of its forms are read (sources.list(5)). */
function configuredMirror(directory = '/etc/apt') {
  const folder = join(directory, 'sources.list.d');
  const more = existsSync(folder) ? readdirSync(folder).sort() : [];
  const files = [join(directory, 'sources.list'), ...more.map((name) => join(folder, name))];
  const lines = files
    .filter((file) => /\.(list|sources)$/.test(file) && existsSync(file))
    .flatMap((file) => readFileSync(file, 'utf8').split('\n'))
    .filter((line) => /^\s*(deb\s|URIs:)/i.test(line));
  return lines
    .flatMap((line) => line.match(/https?:\/\/\S+/g) ?? [])
    .map((url) => url.replace(/\/+$/, ''))
    .find((url) => url.endsWith('/debian'));
}
