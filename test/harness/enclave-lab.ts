/**
 * An enclave without AWS: its image is built and measured for real; the root of that image runs as plain processes in
 * namespaces of their own, without any network but the host's proxy, and the simulated security module says that it has the
 * image's registers. Only the kernel is this machine's, and Node comes from it too.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { openSource, osImageHash, type Pcrs, readEif } from '@dstack-cloud/eif';
import { createNitro, nsmEndpoint, type SimulatedNitro } from '@dstack-cloud/tee-simulator';
import { connectTcp, openVsock, parseProxyConfig, startVsockProxy, type Vsock } from '@dstack-cloud/vsock';
import { containerArchive } from './busybox-image.ts';
import { repository, runCommand } from './run-command.ts';

export const HOW_IT_RUNS =
  'simulated: the customer ramdisk of the image as processes in mount, network and PID namespaces, kernel and Node of this machine, NSM simulator';

export interface EnclaveImage {
  readonly file: string;
  readonly pcrs: Pcrs;
  /** Hex. */
  readonly osImageHash: string;
}

/** Builds an enclave image from a container image, with the command line. */
export async function buildEnclaveImage(
  folder: string,
  content: { readonly files: Readonly<Record<string, string>>; readonly command: readonly string[] },
): Promise<EnclaveImage> {
  mkdirSync(join(folder, 'blobs'), { recursive: true });
  for (const name of ['bzImage', 'cmdline', 'init', 'nsm.ko'])
    writeFileSync(join(folder, 'blobs', name), `${name} of a test\n`);
  const image = join(folder, 'app.tar');
  const programs = programFiles('dstack-enclave-init');
  const { archive } = await containerArchive('registry.example/app:1.0', {
    files: { ...programs, ...content.files },
    config: { Cmd: content.command, Env: ['PATH=/bin:/usr/bin'] },
  });
  writeFileSync(image, archive);
  const file = join(folder, 'app.eif');
  const built = await runCommand(
    [
      process.execPath,
      join(repository, 'dist/bin/dstack-cloud.js'),
      'eif',
      'build',
      '--image',
      image,
      '--blobs',
      join(folder, 'blobs'),
      '-o',
      file,
    ],
    { cwd: folder },
  );
  if (built.code !== 0) throw new Error(`${built.stdout}\n${built.stderr}`);
  const source = await openSource(file);
  try {
    const { pcrs } = await readEif(source);
    return { file, pcrs, osImageHash: osImageHash(pcrs) };
  } finally {
    await source.close();
  }
}

/** A built program with the chunks that it loads. */
function programFiles(name: string): Record<string, string> {
  const bin = join(repository, 'dist/bin');
  const files: Record<string, string> = {};
  const add = (path: string): void => {
    const at = `opt/dstack/${path}`;
    if (at in files) return;
    files[at] = readFileSync(join(bin, path), 'utf8');
    for (const [, chunk] of files[at].matchAll(/["'](?:\.\/|\.\/chunks\/)([\w.-]+-[A-Z0-9]{8}\.js)["']/g))
      add(`chunks/${chunk}`);
  };
  add(`${name}.js`);
  files['opt/dstack/package.json'] = '{"type":"module"}';
  return files;
}

/** A simulated enclave of these registers. */
export function simulatedModule(seed: number, pcrs: Pcrs | undefined): SimulatedNitro {
  const nitro = createNitro(new Uint8Array(32).fill(seed), { debug: pcrs === undefined });
  if (pcrs !== undefined)
    for (const [index, value] of [pcrs.pcr0, pcrs.pcr1, pcrs.pcr2].entries())
      nitro.pcrs[index]!.value = value;
  return nitro;
}

export interface EnclaveRun {
  readonly exitCode: number;
  /** Console: what nitro-cli shows in debug mode. */
  readonly console: string;
  /** What the enclave told the host when it ended. */
  readonly report: { readonly stage?: string; readonly exit_code?: number; readonly error?: string };
  readonly heartbeats: number;
  /** Everything that went through the host's hands: traffic, arguments of its processes, the environment it gave. */
  readonly seenByHost: Buffer;
  /** The root folder; the host of a real enclave has none. */
  readonly root: string;
}

export interface RunEnclaveOptions {
  readonly folder: string;
  readonly image: EnclaveImage;
  readonly nitro: SimulatedNitro;
  /** Time of the module, milliseconds. */
  readonly now?: () => number;
  /** `HOST:PORT` that the proxy lets through. */
  readonly allow: string;
  /** Where the n-th connection really goes, in a host that lies; undefined: where it should. */
  readonly divert?: (connection: number) => number | undefined;
}

/** Runs the application of an image to its end. */
export async function runEnclaveImage(options: RunEnclaveOptions): Promise<EnclaveRun> {
  const { folder, image, nitro } = options;
  const root = join(folder, 'root');
  const shared = join(folder, 'host');
  mkdirSync(shared, { recursive: true });
  const command = unpackApplication(image.file, folder, root);
  const seen: Buffer[] = [];
  const endpoint = await nsmEndpoint(nitro, {
    socketPath: join(shared, 'nsm.sock'),
    ...(options.now && { now: options.now }),
  });
  const vsock = recording(openVsock(`host:${join(shared, 'vm.vsock')}`), seen);
  let heartbeats = 0;
  let report: EnclaveRun['report'] = {};
  const servers = [
    await vsock.listen(9000, (stream) => {
      heartbeats += 1;
      stream.on('data', (byte) => stream.write(byte));
    }),
    await vsock.listen(9001, (stream) => {
      let text = '';
      stream.on('data', (chunk) => {
        text += String(chunk);
      });
      stream.on('end', () => {
        report = JSON.parse(text) as EnclaveRun['report'];
        stream.end();
      });
    }),
  ];
  const proxy =
    options.divert === undefined
      ? await startVsockProxy({
          config: parseProxyConfig(JSON.stringify({ connect: { allow: [options.allow] } })),
          vsock,
          log: () => undefined,
        })
      : await lyingProxy(vsock, options.divert, Number(options.allow.split(':')[1]));
  try {
    const child = startInNamespaces(root, shared, command);
    let console = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => {
        console += chunk.toString();
      });
    const ended = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? 128)));
    const watch = setInterval(() => watchProcesses(child.pid!, seen), 20);
    const exitCode = await ended;
    clearInterval(watch);
    return { exitCode, console, report, heartbeats, seenByHost: Buffer.concat(seen), root };
  } finally {
    await proxy.close();
    await Promise.all(servers.map((server) => server.close()));
    await endpoint.close();
  }
}

/** Unpacks the ramdisk of the application; gives what its init would start. */
function unpackApplication(eif: string, folder: string, root: string): string[] {
  const view = readFileSync(eif);
  const ramdisks: Buffer[] = [];
  for (let at = 548; at < view.length; ) {
    const size = Number(view.readBigUInt64BE(at + 4));
    if (view.readUInt16BE(at) === 3) ramdisks.push(view.subarray(at + 12, at + 12 + size));
    at += 12 + size;
  }
  const unpacked = join(folder, 'ramdisk');
  mkdirSync(unpacked);
  execFileSync('cpio', ['-idm', '--quiet', '--no-absolute-filenames'], { cwd: unpacked, input: ramdisks[1] });
  execFileSync('mv', [join(unpacked, 'rootfs'), root]);
  return readFileSync(join(unpacked, 'cmd'), 'utf8').trimEnd().split('\n');
}

function startInNamespaces(root: string, shared: string, command: readonly string[]): ChildProcess {
  for (const name of ['usr', 'lib', 'lib64', 'host', 'dev', 'proc', 'var/run', 'tmp'])
    mkdirSync(join(root, name), { recursive: true });
  const script = [
    'set -e; root=$1; shared=$2; shift 2',
    'mount --make-rprivate /',
    'for d in usr lib lib64; do [ ! -d /$d ] || mount --bind /$d $root/$d; done',
    'mount --bind $shared $root/host',
    'mount -t proc proc $root/proc',
    'exec chroot $root "$@"',
  ].join('\n');
  const argv = [
    '--mount',
    '--net',
    '--pid',
    '--fork',
    '--kill-child',
    'sh',
    '-c',
    script,
    'sh',
    root,
    shared,
  ];
  return spawn('unshare', [...argv, ...command], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: '/bin:/usr/bin:/usr/sbin',
      DSTACK_NSM: 'unix:/host/nsm.sock',
      DSTACK_VSOCK: 'guest:/host/vm.vsock',
    },
    timeout: 60_000,
  });
}

/** Arguments of every process from this one down, and the environment that the host gave to it. */
function watchProcesses(pid: number, seen: Buffer[]): void {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8');
      parents.set(Number(name), Number(/^PPid:\t(\d+)/m.exec(status)?.[1]));
    } catch {
      // It has ended.
    }
  }
  const isBelow = (one: number): boolean => one === pid || (parents.has(one) && isBelow(parents.get(one)!));
  for (const one of parents.keys()) {
    if (!isBelow(one)) continue;
    try {
      seen.push(readFileSync(`/proc/${one}/cmdline`));
      if (one === pid) seen.push(readFileSync(`/proc/${one}/environ`));
    } catch {
      // It has ended.
    }
  }
}

/** Keeps all that flows through the host. */
function recording(vsock: Vsock, seen: Buffer[]): Vsock {
  return {
    connect: (cid, port) => vsock.connect(cid, port),
    listen: (port, onStream) =>
      vsock.listen(port, (stream, cid) => {
        // Not by a listener: that would take what the proxy has not read yet.
        const push = stream.push.bind(stream);
        stream.push = (chunk: Buffer | null, ...more: [BufferEncoding?]) => {
          if (chunk !== null) seen.push(Buffer.from(chunk));
          return push(chunk, ...more);
        };
        // What comes from elsewhere is written to it.
        const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
        stream.write = ((...args: unknown[]) => {
          seen.push(Buffer.from(args[0] as Uint8Array));
          return write(...args);
        }) as Socket['write'];
        onStream(stream, cid);
      }),
  };
}

/** Says that it connects to the KMS, and connects to something else. */
async function lyingProxy(
  vsock: Vsock,
  divert: (connection: number) => number | undefined,
  honest: number,
): Promise<{ close(): Promise<void> }> {
  let connections = 0;
  return await vsock.listen(3128, (near) => {
    near.once('data', () => {
      near.pause();
      void connectTcp('127.0.0.1', divert(connections++) ?? honest).then((far) => {
        for (const stream of [near, far]) stream.on('error', () => stream.destroy());
        near.write('HTTP/1.1 200 OK\r\n\r\n');
        near.pipe(far);
        far.pipe(near);
      });
    });
  });
}
