import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { measureTdxImage } from '@dstack-cloud/attestation';
import { toBase64, toHex } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import { sha256, sha384 } from './hash.ts';
import { bootOf, type SimulatedBoot } from './simulated-image.ts';
import type { TdHobLayout } from './td-hob.ts';

const DOCUMENT = 'measurement.tdx.cbor';

/** The machine that boots an image folder. */
export interface FolderMachine {
  readonly folder: string;
  readonly cpuCount: number;
  /** Bytes. */
  readonly memorySize: number;
  /** Version of the QEMU that starts it; decides the order in which pages are measured. */
  readonly qemuVersion: string;
}

/**
 * What a TD measures that boots these very files: firmware, kernel, initrd and command line are read and measured, the
 * image's own documents are only handed on. What depends on the host's ACPI tables is simulated.
 *
 * @throws SimulatorError `argument`, AttestationError
 */
export async function imageFolderBoot(machine: FolderMachine): Promise<SimulatedBoot> {
  const { folder, cpuCount, memorySize, qemuVersion } = machine;
  const read = async (name: string): Promise<Uint8Array> => {
    try {
      return new Uint8Array(await readFile(join(folder, name)));
    } catch (cause) {
      throw new SimulatorError('argument', `The image folder has no ${name}: ${folder}`, { cause });
    }
  };
  const [firmware, kernel, initrd] = [
    await read('ovmf.fd'),
    await read('bzImage'),
    await read('initramfs.cpio.gz'),
  ];
  const metadata = JSON.parse(new TextDecoder().decode(await read('metadata.json'))) as { cmdline?: unknown };
  const commandLine = String(metadata.cmdline);
  const measured = measureTdxImage(
    { firmware, kernel, commandLine, initrd: { bytes: initrd.length, sha384: sha384(initrd) } },
    memorySize,
  );
  const ascending = [...measured.hob.accepted].sort((a, b) => a.start - b.start);
  const layout: TdHobLayout = {
    tdHob: BigInt(measured.hob.address),
    accepted: ascending.map(({ start, end }) => ({ start: BigInt(start), length: BigInt(end - start) })),
  };
  const checksumFile = await read('sha256sum.txt');
  const twoPasses = qemuVersion.startsWith('8.');
  const parts = {
    mrTd: twoPasses ? measured.mrtd.twoPass : measured.mrtd.singlePass,
    kernel: measured.kernelAuthenticode,
    commandLine: measured.commandLineSha384,
    initrd: measured.initrdSha384,
  };
  const osImageHash = sha256(checksumFile);
  return bootOf(
    parts,
    { cpuCount, memorySize },
    osImageHash,
    {
      spec_version: 1,
      os_image_hash: toHex(osImageHash),
      cpu_count: cpuCount,
      memory_size: memorySize,
      qemu_version: qemuVersion,
      pci_hole64_size: 0,
      hugepages: false,
      num_gpus: 0,
      num_nvswitches: 0,
      hotplug_off: false,
      image: folder.slice(folder.lastIndexOf('/') + 1),
      host_share_mode: 'vhd',
      ovmf_variant: measured.ovmfVariant,
      tdx_attestation_variant: 'lite',
      tdx_measurement: { checksum_file: toBase64(checksumFile), measurement: toBase64(await read(DOCUMENT)) },
    },
    layout,
  );
}
