import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { addOsImageHash } from '@dstack-cloud/contracts';
import { chooseAcceleration, findProgram, qemuProgram, vmImage, vsockTransport } from '@dstack-cloud/vmm';
import type { Contracts } from './contracts.ts';
import { devImage } from './dev-image.ts';
import { writeNodeImage } from './node-image.ts';
import type { Steps } from './steps.ts';
import type { Workspace } from './workspace.ts';

/** The image of the template's service, which no registry gives to a machine without internet. */
const TEMPLATE_IMAGE = 'node:20-slim';
/** GiB; the template keeps little. */
const DATA_SIZE = 4;

/** What an OS image is built with; the rest comes from locked packages. */
const BUILD_PROGRAMS = ['apt-get', 'dpkg-deb', 'tar', 'npm'];

interface VmSetup {
  /** Folder with the OS image. */
  readonly images: string;
  /** Its name there. */
  readonly image: string;
  /** Makes a project one whose machine boots the image. */
  settle(project: string): Promise<void>;
}

/** Looks for the programs of virtual machines, before anything is built or started. @returns path of QEMU */
export async function requireVmHost(steps: Steps): Promise<string> {
  return await steps.run('vm-host', 'Look for what virtual machines need on this host', async () => {
    const qemu = await qemuProgram('qemu-system-x86_64');
    const { kind } = vsockTransport(false);
    const missing = BUILD_PROGRAMS.filter((name) => findProgram(name) === undefined);
    if (missing.length > 0)
      throw new Error(`An OS image is built on Debian, with ${missing.join(', ')}: not found here`);
    return [qemu.path, `QEMU ${qemu.version}, ${kind} vsock`];
  });
}

/** Everything that virtual machines need beside processes: an OS image that the contract allows, a container image. */
export async function prepareVm(parts: {
  readonly steps: Steps;
  readonly space: Workspace;
  readonly contracts: Contracts;
  /** Path of QEMU. */
  readonly qemu: string;
}): Promise<VmSetup> {
  const { steps, space, contracts, qemu } = parts;
  const folder = await steps.run(
    'os-image',
    'Build the OS image, flavour dev, or take it as it is',
    async () => {
      const built = await devImage();
      if ('missing' in built) throw new Error(`The OS image cannot be built: ${built.missing}`);
      return [built.folder, built.folder];
    },
  );
  await steps.run('acceleration', 'Boot its kernel with KVM', async () => {
    const { kernel } = await vmImage(folder, 'direct');
    const { noKvm } = await chooseAcceleration('auto', qemu, join(folder, kernel));
    return [
      undefined,
      noKvm === null
        ? 'KVM works'
        : `No KVM (${noKvm}): QEMU emulates the processor. Each of the five boots that follow takes a minute or two`,
    ];
  });
  await steps.run('os-image-register', 'Allow the OS image on chain', async () => {
    const digest = (await readFile(join(folder, 'digest.txt'), 'utf8')).trim();
    await addOsImageHash(contracts.client, contracts.kms, `0x${digest}`);
    return [undefined, `OS image ${digest}`];
  });
  const archive = join(space.directory, 'node.tar');
  await steps.run('container-image', 'Make a container image of this machine’s node', async () => {
    writeNodeImage(archive, TEMPLATE_IMAGE);
    return [undefined, `${TEMPLATE_IMAGE}, without a registry`];
  });
  return {
    images: dirname(folder),
    image: basename(folder),
    settle: async (project) => {
      const path = join(project, 'app.json');
      const app = JSON.parse(await readFile(path, 'utf8')) as { local_config?: object };
      await copyFile(archive, join(project, 'node.tar'));
      const local_config = { ...app.local_config, images: ['node.tar'], data_size: DATA_SIZE };
      await writeFile(path, JSON.stringify({ ...app, os_image: basename(folder), local_config }, null, 2));
    },
  };
}
