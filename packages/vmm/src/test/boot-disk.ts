import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeGcpDocument } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { bootRegistersOf, protectRoot, writeDisk, writeUki } from '@dstack-cloud/os-image';

/** Gives an image the disk that firmware starts, as far as it can be checked: nothing in it would run. */
export async function writeBootDisk(folder: string): Promise<void> {
  const program = new Uint8Array(4096 + 0x71);
  program.set(Buffer.from('DSTKSTUB'), 4096);
  const parts = {
    stub: { program, dataStart: 4096, entry: 0x10 },
    commandLine: 'quiet',
    initrd: new Uint8Array(9),
    osRelease: new Uint8Array(9),
  };
  const uki = writeUki({ ...parts, kernel: writeUki({ ...parts, kernel: new Uint8Array(9000) }) });
  writeFileSync(join(folder, 'uki.efi'), uki);
  writeFileSync(join(folder, 'measurement.gcp.cbor'), encodeGcpDocument(fromHex(bootRegistersOf(uki).uki)));
  const root = join(folder, 'root.squashfs');
  writeFileSync(root, new Uint8Array(4096));
  await writeDisk(join(folder, 'disk.raw'), uki, await protectRoot(root));
}
