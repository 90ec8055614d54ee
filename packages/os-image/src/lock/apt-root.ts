import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OsImageError } from '../errors.ts';
import { runCommand } from '../tools/run-command.ts';

const LOCK_ATTEMPTS = 120;
const LOCK_PAUSE_MS = 1000;
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** Where Debian's packages are served, as this machine is configured. */
export interface Mirror {
  readonly main: string;
  readonly security: string;
}

/** A file that apt would download. */
export interface AptFile {
  readonly name: string;
  readonly version: string;
  readonly size: number;
  readonly sha256: string;
}

/**
 * An apt of its own beside the machine's: other suites, nothing installed, its lists in a folder of ours. Signatures
 * are checked with Debian's own keyring.
 */
export class AptRoot {
  readonly #directory: string;

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Makes the folder and reads the mirror's lists. @throws OsImageError */
  static async open(directory: string, suite: string, mirror?: Mirror): Promise<AptRoot> {
    const { main, security } = mirror ?? (await configuredMirror());
    for (const folder of [
      'etc/apt/apt.conf.d',
      'etc/apt/preferences.d',
      'state/lists/partial',
      'cache/archives/partial',
    ])
      await mkdir(join(directory, folder), { recursive: true });
    const signed = `[signed-by=${KEYRING}]`;
    const sources = [
      ...['', '-updates', '-backports'].map((part) => `deb ${signed} ${main} ${suite}${part} main`),
      `deb ${signed} ${security} ${suite}-security main`,
    ];
    await writeFile(join(directory, 'etc/apt/sources.list'), `${sources.join('\n')}\n`);
    await writeFile(join(directory, 'apt.conf'), configuration(directory));
    const root = new AptRoot(directory);
    await root.#apt(['update', '-q']).catch((cause: unknown) => {
      if (cause instanceof OsImageError && cause.code === 'tool-missing') throw cause;
      throw new OsImageError(
        'build-failed',
        `The lists of packages cannot be read from ${main}; check the network and the mirror of this machine, or give all packages with --packages DIR`,
        { cause },
      );
    });
    return root;
  }

  /** What installing these packages into an empty system would download, all dependencies included. */
  async resolve(packages: readonly string[]): Promise<AptFile[]> {
    const printed = await this.#apt(['install', '-q', '-y', '--print-uris', ...packages]);
    const files: AptFile[] = [];
    for (const line of printed.split('\n')) {
      const found = /^'[^']+' (\S+?)_(\S+?)_(?:amd64|all)\.deb (\d+) SHA256:([0-9a-f]{64})$/.exec(line);
      if (found === null) continue;
      const [, name = '', version = '', size = '', sha256 = ''] = found;
      files.push({ name, version: decodeURIComponent(version), size: Number(size), sha256 });
    }
    if (files.length === 0)
      throw new OsImageError('build-failed', `apt found nothing to install for ${packages.join(' ')}`);
    return files;
  }

  /** Downloads these versions of packages into a folder. @throws OsImageError when one is not served */
  async download(packages: readonly { name: string; version: string }[], into: string): Promise<void> {
    await this.#apt(['download', '-q', ...packages.map(({ name, version }) => `${name}=${version}`)], into);
  }

  async #apt(args: readonly string[], cwd?: string): Promise<string> {
    const env = { ...process.env, APT_CONFIG: join(this.#directory, 'apt.conf'), LC_ALL: 'C.UTF-8' };
    for (let attempt = 1; ; attempt++) {
      try {
        return await runCommand('apt-get', args, cwd === undefined ? { env } : { env, cwd });
      } catch (error) {
        // Another build reads the same lists just now.
        const isBusy = error instanceof OsImageError && error.message.includes('Could not get lock');
        if (!isBusy || attempt === LOCK_ATTEMPTS) throw error;
        await sleep(LOCK_PAUSE_MS);
      }
    }
  }
}

function configuration(directory: string): string {
  return [
    `Dir "${directory}/";`,
    'Dir::Etc "etc/apt/";',
    'Dir::State "state/";',
    'Dir::State::status "/dev/null";',
    'Dir::Cache "cache/";',
    'APT::Install-Recommends "false";',
    'APT::Architecture "amd64";',
    'APT::Architectures { "amd64"; };',
    'APT::Sandbox::User "";',
    'Acquire::ForceHash "SHA256";',
    'Acquire::Languages "none";',
    'Acquire::Retries "3";',
    '',
  ].join('\n');
}

/** The mirror in the machine's own apt configuration; both of its forms are read (sources.list(5)). */
async function configuredMirror(directory = '/etc/apt'): Promise<Mirror> {
  const files = [
    join(directory, 'sources.list'),
    ...(await namesIn(join(directory, 'sources.list.d'))).map((name) =>
      join(directory, 'sources.list.d', name),
    ),
  ];
  const urls: string[] = [];
  for (const file of files) {
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return '';
      throw error;
    });
    for (const line of text.split('\n')) {
      if (/^\s*#/.test(line) || !/^\s*(deb\s|URIs:)/i.test(line)) continue;
      urls.push(...(line.match(/https?:\/\/\S+/g) ?? []).map((url) => url.replace(/\/+$/, '')));
    }
  }
  const main = urls.find((url) => url.endsWith('/debian'));
  if (main === undefined)
    throw new OsImageError(
      'tool-missing',
      'No Debian mirror is configured on this machine (an address that ends with /debian in /etc/apt); name one with --mirror',
    );
  return { main, security: urls.find((url) => url.endsWith('/debian-security')) ?? `${main}-security` };
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => /\.(list|sources)$/.test(name)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
