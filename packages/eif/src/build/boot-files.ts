import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { type ByteSource, bytesSource, chunks, type FileSource, openSource } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import type { Architecture } from '../format/header.ts';
import { PcrHasher } from '../measure/pcrs.ts';
import { bootRamdisk, type Ramdisk } from '../root/ramdisk.ts';

/** Longest command line that a kernel takes, bytes. */
const MAX_CMDLINE = 4096;
/** Kernel versions stand in the first pages. */
const PROBE = 64 * 1024;

/** What starts an enclave before the application: the parts that AWS publishes with nitro-cli. */
export interface BootFiles {
  readonly architecture: Architecture;
  readonly kernel: ByteSource;
  readonly commandLine: Uint8Array;
  readonly ramdisk: Ramdisk;
  readonly kernelVersion: string;
  close(): Promise<void>;
}

export interface BootFilesOptions {
  /** Folder with `bzImage` or `Image`, `cmdline`, `init` and `nsm.ko`, as nitro-cli installs them. */
  readonly folder?: string | undefined;
  readonly kernel?: string | undefined;
  readonly commandLine?: string | undefined;
  /** The first ramdisk, whole; made from `init` and `nsm.ko` otherwise. */
  readonly ramdisk?: string | undefined;
  readonly architecture?: Architecture | undefined;
}

const KERNEL_NAMES: Readonly<Record<Architecture, string>> = { x86_64: 'bzImage', aarch64: 'Image' };

/** @throws EifError `bad-argument` for what is missing or does not fit */
export async function openBootFiles(options: BootFilesOptions): Promise<BootFiles> {
  const open: FileSource[] = [];
  const opened = async (path: string, what: string): Promise<FileSource> => {
    const source = await openSource(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') absent(path, what);
      throw error;
    });
    open.push(source);
    return source;
  };
  const inFolder = (name: string, option: string): string => {
    if (options.folder !== undefined) return join(options.folder, name);
    throw new EifError('bad-argument', `Nothing gives the ${name} of the enclave`, {
      hint: `Give the folder of nitro-cli's files with --blobs, or ${option}`,
    });
  };
  try {
    const kernelPath =
      options.kernel ?? inFolder(await kernelName(options), '--kernel, --cmdline and --init-ramdisk');
    const kernel = await opened(kernelPath, 'kernel');
    const probe = await kernel.read(0, Math.min(PROBE, kernel.size));
    const architecture = architectureOf(probe, options.architecture, kernelPath);
    const commandLine =
      options.commandLine ?? (await readText(await opened(inFolder('cmdline', '--cmdline'), 'command line')));
    const whole = options.ramdisk && (await opened(options.ramdisk, 'first ramdisk'));
    const ramdisk = whole
      ? { size: whole.size, bytes: () => chunks(whole, 0, whole.size) }
      : bootRamdisk(
          await opened(inFolder('init', '--init-ramdisk'), 'init'),
          await opened(inFolder('nsm.ko', '--init-ramdisk'), 'module of /dev/nsm'),
        );
    return {
      architecture,
      kernel,
      commandLine: requireCommandLine(commandLine),
      ramdisk,
      kernelVersion: kernelVersion(probe),
      close: async () => void (await Promise.all(open.map((one) => one.close()))),
    };
  } catch (error) {
    await Promise.all(open.map((one) => one.close()));
    throw error;
  }
}

/** PCR 1 of these parts. */
export async function bootPcr(boot: BootFiles): Promise<Uint8Array> {
  const hasher = new PcrHasher(0);
  const put = async (name: 'kernel' | 'cmdline' | 'ramdisk', pieces: AsyncIterable<Uint8Array>) => {
    const measure = hasher.section(name);
    for await (const piece of pieces) await measure(piece);
  };
  await put('kernel', chunks(boot.kernel, 0, boot.kernel.size));
  const commandLine = bytesSource('cmdline', boot.commandLine);
  await put('cmdline', chunks(commandLine, 0, commandLine.size));
  await put('ramdisk', boot.ramdisk.bytes());
  return (await hasher.digest()).pcr1;
}

async function kernelName({ folder, architecture }: BootFilesOptions): Promise<string> {
  if (architecture !== undefined) return KERNEL_NAMES[architecture];
  const isThere = (name: string) =>
    access(join(folder ?? '', name)).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return false;
        throw error;
      },
    );
  const [intel, arm] = [await isThere(KERNEL_NAMES.x86_64), await isThere(KERNEL_NAMES.aarch64)];
  if (intel && arm)
    throw new EifError('bad-argument', `${folder} has the kernels of two machines`, {
      found: 'bzImage and Image',
      hint: 'Say which with --arch',
    });
  return arm ? KERNEL_NAMES.aarch64 : KERNEL_NAMES.x86_64;
}

/** From the header of the kernel (x86 boot protocol; arm64 booting.rst); what is none is taken for what was said. */
function architectureOf(probe: Uint8Array, said: Architecture | undefined, path: string): Architecture {
  const textAt = (offset: number) => Buffer.from(probe.subarray(offset, offset + 4)).toString('latin1');
  let found: Architecture | undefined;
  if (textAt(0x202) === 'HdrS') found = 'x86_64';
  if (textAt(0x38) === 'ARMd') found = 'aarch64';
  if (found !== undefined && said !== undefined && found !== said)
    throw new EifError('bad-argument', `${path} is a kernel for another machine`, { expected: said, found });
  return said ?? found ?? (path.endsWith('/Image') ? 'aarch64' : 'x86_64');
}

/** The version in the header of a bzImage (x86 boot protocol, kernel_version). */
function kernelVersion(probe: Uint8Array): string {
  const view = Buffer.from(probe.buffer, probe.byteOffset, probe.length);
  if (view.length < 0x240 || view.toString('latin1', 0x202, 0x206) !== 'HdrS') return 'Unknown';
  const at = view.readUInt16LE(0x20e) + 0x200;
  const [version] = view.toString('latin1', at, at + 128).split(/[^\x21-\x7e]/);
  return version === undefined || version === '' ? 'Unknown' : version;
}

async function readText(source: FileSource): Promise<string> {
  const bytes = await source.read(0, Math.min(source.size, MAX_CMDLINE + 2));
  return Buffer.from(bytes).toString('latin1');
}

/** nitro-cli cuts blanks and the line end off; what is left is measured. */
function requireCommandLine(given: string): Uint8Array {
  const line = given.trim();
  if (line === '' || /[^\x20-\x7e]/.test(line) || line.length > MAX_CMDLINE)
    throw new EifError('bad-argument', 'The command line of the kernel cannot be used', {
      expected: `one line of 1 to ${MAX_CMDLINE} printable ASCII characters`,
      found: `${line.length} characters`,
    });
  return new Uint8Array(Buffer.from(line, 'latin1'));
}

function absent(path: string, what: string): never {
  throw new EifError('bad-argument', `The ${what} is missing: ${path}`, {
    hint: 'nitro-cli installs its files in /usr/share/nitro_enclaves/blobs; name the folder with --blobs',
  });
}
