import { open } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { equalBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { chunks } from '../byte-source.ts';
import { EifError } from '../errors.ts';
import { type EifMetadata, encodeMetadata, MAX_CUSTOM_BYTES } from '../format/metadata.ts';
import { type Pcrs, signerPcr } from '../measure/pcrs.ts';
import type { ContainerImage } from '../root/container-image.ts';
import { applicationRamdisk } from '../root/ramdisk.ts';
import { readContainer } from '../root/read-container.ts';
import { readFolder } from '../root/read-folder.ts';
import type { RootTree } from '../root/root-tree.ts';
import { startCommand, startFiles } from '../root/start-command.ts';
import { makeSignature, requireSigner } from '../sign/make-signature.ts';
import type { EifSigner } from '../sign/signer.ts';
import { AWS_BOOT_PCR } from './aws-boot-pcr.ts';
import { type BootFiles, bootPcr } from './boot-files.ts';
import { EifWriter, eifSize, onePiece } from './eif-writer.ts';

/** What the header says where nobody says otherwise; nitro-cli writes the same. */
const DEFAULT_MEMORY = 1n << 30n;
const DEFAULT_CPUS = 2n;

export interface BuildEifOptions {
  readonly root:
    | { readonly kind: 'container'; readonly path: string; readonly name?: string | undefined }
    | { readonly kind: 'folder'; readonly path: string };
  readonly boot: BootFiles;
  /** PCR 1 that the boot files must give, hex, or `aws` for those of nitro-cli. */
  readonly pcr1?: string | undefined;
  /** Instead of the command of the image; needed for a folder. */
  readonly command?: readonly string[] | undefined;
  readonly nitroCliCompat?: boolean | undefined;
  readonly signer?: EifSigner | undefined;
  /** The signing certificate must be valid then. */
  readonly now: Date;
  /** The time that the metadata names. */
  readonly buildTime: Date;
  readonly tool: { readonly name: string; readonly version: string };
  readonly imageName?: string | undefined;
  readonly imageVersion?: string | undefined;
  readonly customMetadata?: Readonly<Record<string, unknown>> | undefined;
  /** A file that is there is replaced when it is an enclave image. */
  readonly output: string;
  readonly warn: (line: string) => void;
}

export interface BuiltEif {
  readonly pcrs: Pcrs;
  readonly pcr8: Uint8Array | undefined;
  readonly size: number;
  /** Whether kernel, command line and init are those of nitro-cli. */
  readonly isAwsBoot: boolean;
}

/**
 * Builds an enclave image: the same inputs give the same bytes, but for the signature.
 *
 * @throws EifError
 */
export async function buildEif(options: BuildEifOptions): Promise<BuiltEif> {
  const { boot, signer, output } = options;
  await requireReplaceable(output);
  const signing = signer && requireSigner(signer, options.now);
  const pcr1 = await requireBoot(boot, options.pcr1);
  const application = await readRoot(options);
  try {
    const { image, tree } = application;
    const command = startCommand(image?.config.config, options);
    const { cmd, env } = startFiles(command);
    const ramdisk = applicationRamdisk(tree, cmd, env);
    const metadata = encodeMetadata(metadataOf(options, image));
    const sizes = [
      boot.kernel.size,
      boot.commandLine.length,
      metadata.length,
      boot.ramdisk.size,
      ramdisk.size,
    ];
    const size = eifSize(sizes);
    const format = {
      version: 4,
      architecture: boot.architecture,
      defaultMemory: DEFAULT_MEMORY,
      defaultCpus: DEFAULT_CPUS,
    };
    const writer = await EifWriter.create(output, format, size);
    try {
      await writer.section('kernel', boot.kernel.size, chunks(boot.kernel, 0, boot.kernel.size));
      await writer.section('cmdline', boot.commandLine.length, onePiece(boot.commandLine));
      await writer.section('metadata', metadata.length, onePiece(metadata));
      await writer.section('ramdisk', boot.ramdisk.size, boot.ramdisk.bytes());
      await writer.section('ramdisk', ramdisk.size, ramdisk.bytes());
      const pcrs = await writer.pcrs();
      if (!equalBytes(pcrs.pcr1, pcr1))
        throw new EifError('changed', 'Kernel, command line or init changed while the image was built');
      let signed = 0;
      if (signer !== undefined) {
        const signature = await makeSignature(signer, pcrs.pcr0, options.now);
        await writer.section('signature', signature.length, onePiece(signature));
        signed = eifSize([signature.length]) - eifSize([]);
      }
      await writer.finish();
      return {
        pcrs,
        pcr8: signing && signerPcr(signing.certificate.der),
        size: size + signed,
        isAwsBoot: toHex(pcr1) === AWS_BOOT_PCR[boot.architecture],
      };
    } catch (error) {
      await writer.discard();
      throw error;
    }
  } finally {
    await application.close();
  }
}

async function readRoot({ root, boot, output, warn }: BuildEifOptions): Promise<{
  readonly image?: ContainerImage;
  readonly tree: RootTree;
  readonly close: () => Promise<void>;
}> {
  if (root.kind === 'folder')
    return { tree: await readFolder(root.path, warn), close: async () => undefined };
  const { architecture } = boot;
  return await readContainer(root.path, { architecture, name: root.name, scratch: dirname(output), warn });
}

/** Before the rest is read: nobody waits minutes for a wrong kernel. */
async function requireBoot(boot: BootFiles, wanted: string | undefined): Promise<Uint8Array> {
  const pcr1 = await bootPcr(boot);
  if (wanted === undefined) return pcr1;
  const expected = wanted === 'aws' ? AWS_BOOT_PCR[boot.architecture] : wanted.toLowerCase();
  if (fromHex(expected).length !== pcr1.length)
    throw new EifError('bad-argument', 'The expected PCR 1 is not one', {
      expected: '96 hex digits, or aws',
    });
  if (toHex(pcr1) !== expected)
    throw new EifError(
      'measurement-differs',
      'Kernel, command line and init do not give the expected PCR 1',
      {
        expected,
        found: toHex(pcr1),
        hint: 'Check where these files are from: they decide what runs before the application',
      },
    );
  return pcr1;
}

/** A mistyped name must not overwrite a file that is not an enclave image. */
async function requireReplaceable(output: string): Promise<void> {
  const handle = await open(output, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
  if (handle === undefined) return;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    if (bytesRead === 4 && buffer.toString('latin1') === '.eif') return;
    throw new EifError('output-exists', `${output} exists already, and is no enclave image`, {
      hint: 'Remove it, or name another file with --output',
    });
  } finally {
    await handle.close();
  }
}

function metadataOf(options: BuildEifOptions, image: ContainerImage | undefined): EifMetadata {
  const { customMetadata, tool } = options;
  if (customMetadata !== undefined && utf8(JSON.stringify(customMetadata)).length > MAX_CUSTOM_BYTES)
    throw new EifError('too-large', 'The metadata of your own is too long', {
      expected: `at most ${MAX_CUSTOM_BYTES} bytes`,
    });
  return {
    ImageName: options.imageName ?? image?.name ?? basename(options.output).replace(/\.eif$/, ''),
    ImageVersion: options.imageVersion ?? image?.id ?? 'unversioned',
    BuildMetadata: {
      BuildTime: options.buildTime.toISOString().replace('.000Z', '+00:00'),
      BuildTool: tool.name,
      BuildToolVersion: tool.version,
      OperatingSystem: 'Linux',
      KernelVersion: options.boot.kernelVersion,
    },
    DockerInfo: image === undefined ? null : dockerInfo(image),
    CustomMetadata: customMetadata ?? null,
  };
}

/** Of `docker inspect` what follows from the image alone: no times, no host. */
function dockerInfo({ id, config }: ContainerImage) {
  const { Entrypoint, Cmd, Env, User, WorkingDir, Labels } = config.config ?? {};
  return {
    Id: `sha256:${id}`,
    Architecture: config.architecture,
    Os: config.os,
    Config: {
      Cmd: Cmd ?? null,
      Entrypoint: Entrypoint ?? null,
      Env: Env ?? [],
      Labels: Labels ?? null,
      User: User ?? '',
      WorkingDir: WorkingDir ?? '',
    },
    RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids },
  };
}
