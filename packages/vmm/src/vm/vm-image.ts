import { join } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { parseTdxDocument } from '@dstack-cloud/attestation';
import { toBase64 } from '@dstack-cloud/encoding';
import { changedFiles, checkDisk, OsImageError, type OsImageFolder, readImage } from '@dstack-cloud/os-image';
import { VmmError } from '../errors.ts';
import type { DevicePlan } from './devices/device-plan.ts';

const MAX_DOCUMENT = 64 * 1024;
const MEASUREMENT = 'measurement.tdx.cbor';

/** An OS image whose files are what its own list says. */
export interface VmImage extends OsImageFolder {
  readonly rootfs: string;
  readonly firmware: string;
}

/**
 * Reads the image in a folder and compares its files with the image's list. The root file system is not on the list: the
 * measured command line has its root hash, which the guest's kernel checks block by block.
 *
 * @throws VmmError `bad_image`
 */
export async function vmImage(folder: string, boot: 'direct' | 'disk'): Promise<VmImage> {
  try {
    const image = await readImage(folder);
    const { rootfs, firmware } = image;
    if (rootfs === undefined || firmware === undefined)
      throw bad(folder, `metadata.json names no ${rootfs === undefined ? 'rootfs' : 'bios'}`);
    const measured = [image.kernel, image.initrd, firmware, 'metadata.json', MEASUREMENT];
    const unlisted = measured.find((name) => !image.listed.has(name));
    if (unlisted !== undefined) throw bad(folder, `sha256sum.txt does not list ${unlisted}`);
    const [changed] = await changedFiles(image);
    if (changed !== undefined)
      throw new VmmError(
        'bad_image',
        `${join(folder, changed.name)} is not the file that the image was built with: build the image again, or fetch it`,
        { expected: changed.expected, found: changed.found ?? 'no such file' },
      );
    const digest = await text(folder, 'digest.txt');
    if (digest !== image.digest)
      throw new VmmError(
        'bad_image',
        `digest.txt in ${folder} is not that of sha256sum.txt: build the image again`,
        {
          expected: image.digest,
          found: digest,
        },
      );
    await measurementOf(folder);
    if (boot === 'disk') await checkDisk(image);
    return { ...image, rootfs, firmware };
  } catch (error) {
    if (error instanceof OsImageError) throw new VmmError('bad_image', error.message, { cause: error });
    throw error;
  }
}

/** Hardware as the guest's evidence has to describe it. */
interface MeasuredMachine {
  readonly devices: DevicePlan;
  readonly qemuVersion: string;
}

/** `vm_config`: what a verifier recomputes the boot registers from. Nothing of it is trusted. */
export async function vmConfig(image: VmImage, { devices, qemuVersion }: MeasuredMachine): Promise<object> {
  const { document, ovmfVariant } = await measurementOf(image.folder);
  return {
    spec_version: 1,
    os_image_hash: image.digest,
    cpu_count: devices.vcpu,
    memory_size: devices.memory * 1024 * 1024,
    qemu_version: qemuVersion,
    pci_hole64_size: 0,
    hugepages: devices.nodes.length > 0,
    num_gpus: devices.gpus.length,
    num_nvswitches: devices.bridges.length,
    hotplug_off: false,
    image: image.folder.slice(image.folder.lastIndexOf('/') + 1),
    host_share_mode: 'vhd',
    ovmf_variant: ovmfVariant,
    tdx_attestation_variant: 'lite',
    tdx_measurement: {
      checksum_file: toBase64(await small(image.folder, 'sha256sum.txt')),
      measurement: toBase64(document),
    },
  };
}

/** What a TD of the image measures. @throws VmmError `bad_image`, also for that of a version that is not known here */
async function measurementOf(folder: string): Promise<{ document: Uint8Array; ovmfVariant: string }> {
  const document = await small(folder, MEASUREMENT).catch((cause: Error) => {
    throw bad(folder, cause.message, cause);
  });
  try {
    return { document, ovmfVariant: parseTdxDocument(document).ovmfVariant };
  } catch (cause) {
    throw bad(
      folder,
      `its ${MEASUREMENT} is of another version than this program’s, or damaged (${(cause as Error).message}): build the image again, or use the version that it was built with`,
      cause,
    );
  }
}

async function small(folder: string, name: string): Promise<Uint8Array> {
  return await readFileBounded(join(folder, name), MAX_DOCUMENT, { noFollow: true });
}

async function text(folder: string, name: string): Promise<string> {
  try {
    return new TextDecoder()
      .decode(await readFileBounded(join(folder, name), 1024, { noFollow: true }))
      .trim();
  } catch (cause) {
    throw bad(folder, (cause as Error).message, cause);
  }
}

function bad(folder: string, why: string, cause?: unknown): VmmError {
  return new VmmError('bad_image', `${folder} is no OS image that this driver starts: ${why}`, { cause });
}
