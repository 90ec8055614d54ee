import { lstat } from 'node:fs/promises';
import { VmmError } from '../errors.ts';
import { canonical } from '../folder/machine-folder.ts';
import type { VmManifest } from '../manifest/manifest.ts';
import { requireSpace } from './data-disk.ts';
import { type DevicePlan, devicePlan } from './devices/device-plan.ts';
import { findProgram } from './find-program.ts';
import { type QemuProgram, qemuProgram, startsTds } from './qemu-program.ts';
import { type VmImage, vmImage } from './vm-image.ts';
import { type VsockTransport, vsockTransport } from './vsock.ts';

/** What the driver found on this host for a machine. */
export interface VmHost {
  readonly qemu: QemuProgram;
  readonly image: VmImage;
  readonly vsock: VsockTransport;
  readonly swtpm: string | undefined;
  readonly devices: DevicePlan;
}

/** Between these sizes the firmware's memory map, which is measured, is not what the rules compute. */
const EXACT_MIB = 2048;
const SPLIT_MIB = 2816;

/**
 * Everything that can be checked before a machine is made, changed or started; changes nothing.
 *
 * @throws VmmError `program_missing`, `bad_image`, `bad_option`, `no_space`, `moved`
 */
export async function checkVm(dir: string, manifest: VmManifest): Promise<VmHost> {
  const { vm, tee } = manifest;
  if (vm.home !== canonical(dir))
    throw new VmmError(
      'moved',
      `The machine in ${dir} was made in ${vm.home}: move the folder back, or deploy a new machine; a copy of a machine is none`,
      { expected: vm.home, found: canonical(dir) },
    );
  if (vm.networks.every(({ mode }) => mode !== 'user') && manifest.port_map.length > 0)
    throw new VmmError(
      'bad_option',
      'Ports are mapped through a network of mode user: add one, or map none',
      {
        expected: 'a network of mode user',
        found: vm.networks.map(({ mode }) => mode).join(', ') || 'no network',
      },
    );
  await requireDiskFile(vm.images_disk);
  const qemu = await qemuProgram(vm.qemu);
  if (tee.kind === 'tdx' && !startsTds(qemu.version))
    throw new VmmError('program_missing', `${qemu.path} starts no TD: install a newer QEMU`, {
      expected: 'version 8.0 or later',
      found: qemu.version,
    });
  const devices = await devicePlan(vm, qemu.version);
  if (tee.kind !== 'none') requireMeasurable(devices);
  const vsock = vsockTransport(tee.kind === 'tdx');
  const swtpm = vm.tpm === 'swtpm' ? requireTpm() : undefined;
  await requireSpace(dir);
  const image = await vmImage(vm.image_folder, vm.boot);
  if (tee.kind === 'tdx' && !vm.allow_dev_image) requireProd(image);
  if (tee.kind === 'simulated-tdx' && !image.isDev)
    throw new VmmError(
      'bad_image',
      `${vm.image_folder} is an image of flavour prod, which takes no simulated TEE: use an image of flavour dev (dstack-cloud image build --dev), or a host with TDX`,
      { expected: 'flavour dev', found: 'flavour prod' },
    );
  return { qemu, image, vsock, swtpm, devices };
}

/**
 * Evidence of a development image is genuine in a TD, but its console gives whoever runs the host a shell in it.
 *
 * @throws VmmError `bad_image`
 */
export function requireProd({ folder, isDev }: Pick<VmImage, 'folder' | 'isDev'>): void {
  if (!isDev) return;
  throw new VmmError(
    'bad_image',
    `${folder} is an image of flavour dev, whose console gives the host a shell in the TD: use an image of flavour prod (dstack-cloud image build), or set cvm.allow_dev_image for tests`,
    { expected: 'flavour prod', found: 'flavour dev' },
  );
}

function requireMeasurable({ memory }: DevicePlan): void {
  if (memory === EXACT_MIB || memory >= SPLIT_MIB) return;
  throw new VmmError(
    'bad_option',
    `A TD cannot have ${memory} MiB of memory: its measurements are not predictable`,
    { expected: `${EXACT_MIB} MiB, or ${SPLIT_MIB} MiB and more`, found: `${memory} MiB` },
  );
}

function requireTpm(): string {
  const path = findProgram('swtpm');
  if (path !== undefined) return path;
  throw new VmmError('program_missing', 'There is no swtpm for the machine’s TPM: install swtpm', {
    expected: 'swtpm on PATH',
    found: 'no such program',
  });
}

async function requireDiskFile(path: string | null): Promise<void> {
  if (path === null) return;
  const status = await lstat(path).catch((cause: unknown) => {
    throw new VmmError(
      'bad_option',
      `The disk with container images cannot be used: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  });
  if (!status.isFile())
    throw new VmmError('bad_option', `The disk with container images ${path} is no regular file`);
}
