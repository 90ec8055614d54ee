/**
 * Enclaves on this host, made and run by the built command line: a project with an image of its own Node, and the network
 * between its host and the KMS, which records and can lie.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { containerArchive } from './busybox-image.ts';
import { type Outcome, repository, runCommand } from './run-command.ts';

/** Longest that building, booting and asking a KMS takes on a loaded machine. */
const COMMAND_MS = 120_000;
/** Programs of Node live longer than that. */
const WATCH_MS = 40;

/** What the KMS and every command of a test share. */
export interface EnclaveLab {
  /** Folder of projects, machines and the seed. */
  readonly directory: string;
  readonly seedFile: string;
}

/** A project of platform nitro on this host. */
export interface EnclaveProject {
  readonly directory: string;
  /** Runs a command in it. @param bin folder with other programs */
  run(args: readonly string[], bin?: string): Promise<Outcome>;
  /** Folder of its machine. */
  machine(): string;
}

/** The Node of this machine with the libraries that it loads, by their path in an image. */
function node(): Record<string, string> {
  const libraries = execFileSync('ldd', [process.execPath], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g);
  return Object.fromEntries([
    ['bin/node', process.execPath],
    ...[...libraries].map(([, path]) => [path!.slice(1), path!] as const),
  ]);
}

/** Makes a project whose container image has these files below `/app`, and starts `/app/entrypoint.sh`. */
export async function enclaveProject(
  { directory: lab, seedFile }: EnclaveLab,
  name: string,
  options: {
    readonly app: Readonly<Record<string, string>>;
    readonly appId: string;
    readonly kmsUrl: string;
  },
): Promise<EnclaveProject> {
  const directory = join(lab, name);
  const blobs = join(lab, 'blobs');
  mkdirSync(join(directory, 'app'), { recursive: true });
  mkdirSync(blobs, { recursive: true });
  for (const file of ['bzImage', 'cmdline', 'init', 'nsm.ko'])
    writeFileSync(join(blobs, file), `${file} of a test\n`);
  const { archive } = await containerArchive('registry.example/app:1.0', {
    files: Object.fromEntries(Object.entries(options.app).map(([path, text]) => [`app/${path}`, text])),
    copies: { ...node(), 'opt/dstack': join(repository, 'dist/enclave') },
    config: { Cmd: ['/bin/sh', '/app/entrypoint.sh'], Env: ['PATH=/bin'] },
  });
  writeFileSync(join(directory, 'image.tar'), archive);
  for (const [path, text] of Object.entries(options.app)) writeFileSync(join(directory, 'app', path), text);
  const app = {
    name,
    platform: 'nitro',
    app_id: options.appId.replace(/^0x/, ''),
    nitro_config: { host: 'local', image: 'image.tar', kms_url: options.kmsUrl, memory_mib: 4096 },
  };
  writeFileSync(join(directory, 'app.json'), JSON.stringify(app));
  writeFileSync(
    join(lab, 'config.json'),
    JSON.stringify({ local: { run_path: join(lab, 'vm'), seed_file: seedFile } }),
  );
  return {
    directory,
    run: async (args, bin) => await cloud(lab, directory, args, bin),
    machine: () =>
      (JSON.parse(readFileSync(join(directory, 'state.json'), 'utf8')) as { machine_dir: string })
        .machine_dir,
  };
}

/** Runs a command of the built command line in a folder, with the configuration of the lab. */
export async function cloud(
  lab: string,
  cwd: string,
  args: readonly string[],
  bin?: string,
): Promise<Outcome> {
  const program = join(repository, 'dist/bin/dstack-cloud.js');
  return await runCommand([process.execPath, program, '--config', join(lab, 'config.json'), ...args], {
    cwd,
    env: {
      HOME: lab,
      NITRO_CLI_BLOBS: join(lab, 'blobs'),
      ...(bin === undefined ? {} : { DSTACK_BIN_DIR: bin }),
    },
    timeoutMs: COMMAND_MS,
  });
}

/** The built programs, with a security module that something is done to before it starts: JavaScript. */
export function otherModule(folder: string, script: string): string {
  const bin = join(repository, 'dist/bin');
  mkdirSync(folder);
  for (const name of readdirSync(bin))
    if (name !== 'dstack-tee-simulator.js') symlinkSync(join(bin, name), join(folder, name));
  const real = JSON.stringify(join(bin, 'dstack-tee-simulator.js'));
  writeFileSync(join(folder, 'dstack-tee-simulator.js'), `${script}\nawait import(${real});\n`);
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  return folder;
}

/** What lies between a host and its KMS. */
export interface Network {
  readonly url: string;
  /** Every byte of both directions. */
  readonly seen: Buffer[];
  /** Where the n-th connection really goes; undefined: where it should. */
  divert: ((connection: number) => number | undefined) | undefined;
  close(): Promise<void>;
}

export async function startNetwork(honest: number): Promise<Network> {
  const seen: Buffer[] = [];
  const open = new Set<Socket>();
  let connections = 0;
  let divert: Network['divert'];
  const server = createServer((near) => {
    const far = connect(divert?.(connections++) ?? honest, '127.0.0.1');
    for (const stream of [near, far]) {
      open.add(stream);
      stream.on('error', () => stream.destroy());
      stream.on('data', (chunk: Buffer) => seen.push(chunk));
      stream.once('close', () => open.delete(stream));
    }
    near.pipe(far);
    far.pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}`,
    seen,
    get divert() {
      return divert;
    },
    set divert(next) {
      connections = 0;
      divert = next;
    },
    close: async () => {
      for (const stream of open) stream.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Everything that the host has of an enclave, but for the files that stand for the enclave's memory. */
export function hostFiles(machine: string): Buffer[] {
  if (!existsSync(machine)) return [];
  return readdirSync(machine, { withFileTypes: true }).flatMap((entry) => {
    const path = join(machine, entry.name);
    if (entry.isDirectory()) return entry.name === 'guest' ? [] : hostFiles(path);
    return entry.isFile() && !entry.name.endsWith('.eif') ? [readFileSync(path)] : [];
  });
}

/**
 * Looks at all processes that have this text in their environment, again and again, so that short ones are seen too.
 *
 * @returns ends it, and gives the arguments and environments that were seen, each once
 */
export function watchProcesses(mark: string): () => readonly Buffer[] {
  const seen = new Map<string, Buffer>();
  const look = (): void => {
    const { arguments: words, environments } = processesOf(mark);
    for (const one of [...words, ...environments]) seen.set(one.toString('latin1'), one);
  };
  const timer = setInterval(look, WATCH_MS);
  return () => {
    clearInterval(timer);
    look();
    return [...seen.values()];
  };
}

/** Arguments and environment of every process that has this text in its environment. */
export function processesOf(mark: string): { readonly arguments: Buffer[]; readonly environments: Buffer[] } {
  const found = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`);
        return environment.includes(mark)
          ? [{ environment, arguments: readFileSync(`/proc/${pid}/cmdline`) }]
          : [];
      } catch {
        return []; // It has ended.
      }
    });
  return { arguments: found.map((one) => one.arguments), environments: found.map((one) => one.environment) };
}
