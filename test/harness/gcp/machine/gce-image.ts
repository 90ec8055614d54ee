import { createHash } from 'node:crypto';
import { predictUki, readUki, type UnifiedKernelImage } from '@dstack-cloud/attestation';
import { utf8 } from '@dstack-cloud/encoding';
import type { GceImage } from '@dstack-cloud/tee-simulator';
import type { BootDisk } from './boot-disk.ts';

/** At the start of the data of our boot stub, which measures no sections; that of systemd measures them. */
const OUR_STUB = utf8('DSTKSTUB');

const hashes = {
  hash: (algorithm: string, ...parts: Uint8Array[]): Uint8Array => {
    const hash = createHash(algorithm);
    for (const part of parts) hash.update(part);
    return new Uint8Array(hash.digest());
  },
};

/** What GCE's firmware, the boot stub and the kernel measure when they boot a disk. @throws AttestationError */
export function gceImageOf({ gpt, uki }: BootDisk): { image: GceImage; files: UnifiedKernelImage } {
  const files = readUki(uki);
  const gptDigest = hashes.hash('sha256', gpt);
  const measured = predictUki(files, { gptDigest, measuredSections: [] }, hashes);
  const [commandLine, initrd] = measured.pcr9 as [Uint8Array, Uint8Array];
  const data = files.sections.get('.data') ?? new Uint8Array(0);
  const sections = !OUR_STUB.every((byte, i) => data[i] === byte);
  const image = { uki: measured.uki, kernel: measured.kernel, commandLine, initrd, gpt: gptDigest, sections };
  return { image, files };
}
