import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { OsImageError } from '../errors.ts';
import { writeUki } from '../formats/uki.ts';
import type { ImageLock } from '../lock/image-lock.ts';
import { PackageStore, type PackageStoreOptions } from '../packages/package-store.ts';
import { isDropped } from '../recipe/recipe.ts';
import { TRIED_ON } from '../recipe/tried-on.ts';
import { runCommand } from '../tools/run-command.ts';
import { ToolBox } from '../tools/tool-box.ts';
import { addPackages } from '../tree/add-packages.ts';
import { FileTree } from '../tree/file-tree.ts';
import { writeTar } from '../tree/write-tar.ts';
import { makeWorkFolder } from '../work-folder.ts';
import { addNode } from './add-node.ts';
import { addPrograms } from './add-programs.ts';
import { protectRoot, writeDisk, writeRootDisk } from './assemble.ts';
import { billOfMaterials } from './bill-of-materials.ts';
import { buildFailure, requireRoom } from './build-failure.ts';
import { buildStub } from './build-stub.ts';
import { commandLine, type Flavour } from './command-line.ts';
import { describeImage, type ImageHashes } from './describe-image.ts';
import { buildInitramfs } from './initramfs.ts';
import { prepareModules } from './kernel-modules.ts';
import { moveInto } from './move-into.ts';
import { programPackages } from './program-packages.ts';
import { requireLibraries } from './require-libraries.ts';
import { configureRoot } from './root-tree.ts';

export interface BuildImageOptions {
  readonly lock: ImageLock;
  /** Folder of this package: `files`, `stub`. */
  readonly recipe: string;
  /** Folder of the guest's bundled programs. */
  readonly programs: string;
  readonly flavour: Flavour;
  readonly version: string;
  /** Folder of the image to make; must not exist. */
  readonly output: string;
  readonly store: PackageStoreOptions;
  /** How the root is compressed; `COMPRESSION.quick` unless given. */
  readonly compression?: Compression;
  readonly say?: (line: string) => void;
}

/** How a squashfs is compressed. */
interface Compression {
  /** Of zstd. */
  readonly level: number;
  /** Size of a block that is compressed at once, bytes. */
  readonly block: number;
}

/** Seconds, for development; minutes, for images that are published. */
export const COMPRESSION: Readonly<Record<'quick' | 'release', Compression>> = {
  quick: { level: 6, block: 128 * 1024 },
  release: { level: 19, block: 1024 * 1024 },
};

/** Times of all files in images: the same for ever, so that they say nothing. 1 January 2026. */
export const EPOCH = 1_767_225_600;

/**
 * Makes an image folder. It is made beside its place and renamed when all is there, so a failed or killed build leaves
 * no image.
 *
 * @throws OsImageError
 */
export async function buildImage(options: BuildImageOptions): Promise<ImageFiles> {
  const { lock, recipe, output } = options;
  const parent = dirname(output);
  let step = 'Folder';
  const say = (line: string): void => {
    step = line;
    options.say?.(line);
  };
  let work: string | undefined;
  try {
    await mkdir(parent, { recursive: true });
    // First, as it makes room.
    work = await makeWorkFolder(parent, basename(output));
    await requireRoom(parent);
    const npm = await programPackages(options.programs);
    const store = new PackageStore(lock, options.store);
    say('Packages');
    const packages = await store.files(lock.image);
    const tools = await ToolBox.unpack(await store.files(lock.tools), join(work, 'tools'));
    say('Root file system');
    const tree = new FileTree();
    const named = lock.image.map(({ name }, index) => ({ name, file: packages[index]! }));
    await addPackages(named, tree, { blobs: join(work, 'blobs'), wanted: (path) => !isDropped(path) });
    const kernel = await kernelOf(packages, lock, work);
    const modules = await prepareModules(tree, tools, work);
    await addNode(tree, tools, { nodeTarball: await store.nodeTarball(), work });
    await addPrograms(options.programs, tree);
    await configureRoot(tree, recipe, options.flavour);
    await requireLibraries([tree], 'root file system');
    const initramfs = await compress(await buildInitramfs(tree, modules, recipe), tools, work);
    const squashfs = join(work, 'rootfs.squashfs');
    const { level, block } = options.compression ?? COMPRESSION.quick;
    const args = [
      ...['-comp', 'zstd', '-Xcompression-level', String(level), '-b', String(block)],
      ...['-no-xattrs', '-exit-on-error'],
    ];
    const times = [
      ...['-mkfs-time', String(EPOCH), '-root-time', String(EPOCH)],
      ...['-root-mode', '0755', '-root-uid', '0', '-root-gid', '0'],
    ];
    const archive = join(work, 'rootfs.tar');
    await writeTar(tree, EPOCH, archive);
    await tools.run('usr/bin/sqfstar', [...args, ...times, '-quiet', '-no-progress', squashfs], {
      inputFile: archive,
    });
    await rm(archive);
    say('Disk');
    const root = await protectRoot(squashfs);
    const stub = await buildStub(join(recipe, 'stub'), tools, work);
    const text = commandLine(options.flavour, { hash: toHex(root.rootHash), size: root.dataSize });
    const osRelease = utf8(osReleaseOf(options));
    const uki = writeUki({ stub, osRelease, commandLine: text, initrd: initramfs, kernel });
    const image = join(work, 'image');
    await mkdir(image);
    const firmware = new Uint8Array(await readFile(join(tools.folder, FIRMWARE)));
    const rootHash = toHex(root.rootHash);
    const description = metadata(options, text, rootHash);
    const parts = { firmware, kernel, initrd: initramfs, commandLine: text, uki, metadata: description };
    const hashes = await describeImage(image, parts);
    await writeRootDisk(join(image, 'rootfs.img.parted.verity'), root);
    await writeDisk(join(image, 'disk.raw'), uki, root);
    const component = { type: 'operating-system', name: 'dstack-cloud', version: options.version } as const;
    const materials = { component, lock, debian: lock.image, npm, sizes: tree.sizes(), triedOn: TRIED_ON };
    await writeFile(join(image, 'sbom.cdx.json'), billOfMaterials(materials));
    await moveInto(image, output);
    return { folder: output, ...hashes, rootHash, commandLine: text };
  } catch (error) {
    throw buildFailure(error, { step, folder: parent });
  } finally {
    if (work !== undefined) await rm(work, { recursive: true, force: true });
  }
}

export interface ImageFiles extends ImageHashes {
  readonly folder: string;
  /** Root hash of the verity tree, hex. */
  readonly rootHash: string;
  readonly commandLine: string;
}

/** Firmware with the metadata that a TD needs, from the locked package. */
const FIRMWARE = 'usr/share/ovmf/OVMF.fd';

/** The kernel of the locked package that has it. */
async function kernelOf(packages: readonly string[], lock: ImageLock, work: string): Promise<Uint8Array> {
  const index = lock.image.findIndex(({ name }) => name === `linux-binary-${lock.kernel}`);
  const file = packages[index];
  if (file === undefined)
    throw new OsImageError('bad-lock', `The lock has no package linux-binary-${lock.kernel}`);
  const folder = join(work, 'kernel');
  await runCommand('dpkg-deb', ['-x', file, folder]);
  return new Uint8Array(await readFile(join(folder, 'usr/lib/modules', lock.kernel, 'vmlinuz')));
}

async function compress(bytes: Uint8Array, tools: ToolBox, work: string): Promise<Uint8Array> {
  const file = join(work, 'initramfs.cpio');
  await writeFile(file, bytes);
  await tools.run('usr/bin/gzip', ['--best', '--no-name', '--keep', file]);
  return new Uint8Array(await readFile(`${file}.gz`));
}

function osReleaseOf({ flavour, version }: BuildImageOptions): string {
  return `ID=dstack\nNAME="dstack-cloud"\nVERSION_ID=${version}\nVARIANT_ID=${flavour}\n`;
}

/** Description of the image for a VMM, in the order of its members. */
function metadata(options: BuildImageOptions, text: string, rootHash: string): string {
  const members = {
    bios: 'ovmf.fd',
    kernel: 'bzImage',
    cmdline: text,
    initrd: 'initramfs.cpio.gz',
    rootfs: 'rootfs.img.parted.verity',
    version: options.version,
    git_revision: '',
    shared_ro: true,
    is_dev: options.flavour === 'dev',
    rootfs_hash: rootHash,
  };
  return `${JSON.stringify(members, null, 2)}\n`;
}
