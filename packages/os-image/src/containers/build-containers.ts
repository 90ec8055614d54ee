import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { addNode } from '../build/add-node.ts';
import { PROGRAM_FOLDER } from '../build/add-programs.ts';
import { billOfMaterials } from '../build/bill-of-materials.ts';
import { buildFailure } from '../build/build-failure.ts';
import { EPOCH } from '../build/build-image.ts';
import { programPackages } from '../build/program-packages.ts';
import { requireLibraries } from '../build/require-libraries.ts';
import { OsImageError } from '../errors.ts';
import type { ImageLock, LockedPackage } from '../lock/image-lock.ts';
import { PackageStore, type PackageStoreOptions } from '../packages/package-store.ts';
import { ToolBox } from '../tools/tool-box.ts';
import { addPackages } from '../tree/add-packages.ts';
import { FileTree } from '../tree/file-tree.ts';
import { writeTar } from '../tree/write-tar.ts';
import { makeWorkFolder } from '../work-folder.ts';
import {
  CONTAINER_PACKAGES,
  CONTAINER_PROGRAMS,
  CONTAINER_TOOLS,
  CONTAINER_USER,
  isWanted,
} from './container-recipe.ts';
import { configureContainer, programTree } from './container-root.ts';
import { type Layer, type OciDigests, writeOciArchive } from './write-oci-archive.ts';

export interface BuildContainersOptions {
  readonly lock: ImageLock;
  /** Folder with one folder of bundled files for each program. */
  readonly programs: string;
  /** Names of the programs; each of `CONTAINER_PROGRAMS`. */
  readonly names: readonly string[];
  readonly version: string;
  /** Folder to put the archives in. */
  readonly output: string;
  readonly store: PackageStoreOptions;
  readonly say?: (line: string) => void;
}

export interface ContainerFiles extends OciDigests {
  readonly name: string;
  /** `NAME:TAG` that it has after `docker load`. */
  readonly reference: string;
  readonly archive: string;
  readonly billOfMaterials: string;
}

/** Names of the archive and of the bill of materials of a program. */
export function containerFileNames(name: string, version: string): { archive: string; bill: string } {
  return { archive: `${name}-${version}.tar`, bill: `${name}-${version}.cdx.json` };
}

/**
 * Makes container images of our services, without a container engine. Each has a layer with Node and its libraries, the
 * same in all of them, and one with its program.
 *
 * @throws OsImageError
 */
export async function buildContainers(options: BuildContainersOptions): Promise<ContainerFiles[]> {
  const { lock, names, programs, output, version } = options;
  let step = 'Folder';
  const say = (line: string): void => {
    step = line;
    options.say?.(line);
  };
  let work: string | undefined;
  try {
    await mkdir(output, { recursive: true });
    work = await makeWorkFolder(output, 'containers');
    const npm = new Map<string, Awaited<ReturnType<typeof programPackages>>>();
    for (const name of names) npm.set(name, await programPackages(join(programs, name)));
    const store = new PackageStore(lock, options.store);
    say('Packages');
    const debian = pick(lock.image, CONTAINER_PACKAGES);
    const files = await store.files(debian);
    const toolFiles = await store.files(pick(lock.tools, CONTAINER_TOOLS));
    const tools = await ToolBox.unpack(toolFiles, join(work, 'tools'));
    say('Node and its libraries');
    const base = new FileTree();
    const named = debian.map(({ name }, index) => ({ name, file: files[index]! }));
    await addPackages(named, base, { blobs: join(work, 'blobs'), wanted: isWanted });
    await configureContainer(base);
    await addNode(base, tools, { nodeTarball: await store.nodeTarball(), work });
    const shared = await layer(base, 'Node and its libraries', tools, join(work, 'base.tar'));
    const built: ContainerFiles[] = [];
    for (const name of names) {
      say(name);
      const tree = await programTree(programs, name);
      await requireLibraries([base, tree], `container image ${name}`);
      const component = { type: 'container', name, version } as const;
      const materials = { component, lock, debian, npm: npm.get(name)!, sizes: base.sizes() };
      const bill = billOfMaterials(materials);
      tree.file(`/usr/share/doc/${name}/sbom.cdx.json`, bill);
      const layers = [shared, await layer(tree, `${name} ${version}`, tools, join(work, `${name}.tar`))];
      const reference = `${name}:${version}`;
      const names = containerFileNames(name, version);
      const archive = join(work, names.archive);
      const config = imageConfig(name, version);
      const digests = await writeOciArchive({ layers, reference, time: EPOCH, config }, archive);
      await writeFile(join(work, names.bill), bill);
      await rename(join(work, names.bill), join(output, names.bill));
      await rename(archive, join(output, names.archive));
      built.push({
        ...digests,
        name,
        reference,
        archive: join(output, names.archive),
        billOfMaterials: join(output, names.bill),
      });
    }
    return built;
  } catch (error) {
    throw buildFailure(error, { step, folder: output });
  } finally {
    if (work !== undefined) await rm(work, { recursive: true, force: true });
  }
}

function pick(packages: readonly LockedPackage[], names: readonly string[]): LockedPackage[] {
  return names.map((name) => {
    const found = packages.find((one) => one.name === name);
    if (found === undefined) throw new OsImageError('bad-lock', `The lock has no package ${name}`);
    return found;
  });
}

function imageConfig(name: string, version: string): object {
  const { title, description, ports } = CONTAINER_PROGRAMS[name]!;
  return {
    User: `${CONTAINER_USER.id}:${CONTAINER_USER.id}`,
    ExposedPorts: Object.fromEntries(ports.map((port) => [`${port}/tcp`, {}])),
    Env: [`PATH=${PROGRAM_FOLDER}`, `HOME=${CONTAINER_USER.home}`, 'NODE_ENV=production'],
    Entrypoint: [`${PROGRAM_FOLDER}/node`, `${PROGRAM_FOLDER}/${name}.js`],
    WorkingDir: CONTAINER_USER.home,
    Labels: {
      'org.opencontainers.image.description': description,
      'org.opencontainers.image.licenses': 'Apache-2.0',
      'org.opencontainers.image.title': title,
      'org.opencontainers.image.version': version,
    },
    StopSignal: 'SIGTERM',
  };
}

/** Compresses with the locked gzip: other versions, and zlib in Node, give other bytes. */
async function layer(tree: FileTree, comment: string, tools: ToolBox, file: string): Promise<Layer> {
  await writeTar(tree, EPOCH, file);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  await tools.run('usr/bin/gzip', ['-6', '--no-name', file]);
  return { file: `${file}.gz`, diffId: hash.digest('hex'), comment };
}
