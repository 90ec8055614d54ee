/** What the firmware measures when it boots our disk, and what a changed disk does to it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EV_NO_ACTION, parseBootLog, replayDigests } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { bootRegistersOf } from '@dstack-cloud/os-image';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { devImage } from '../harness/vm/dev-image.ts';
import {
  MEASURED_MACHINE_PROGRAMS,
  type MeasuredBoot,
  type MeasuredMachine,
  measuredMachine,
  NoBoot,
} from '../harness/vm/measured-machine.ts';

const BOOT_MS = 600_000;
const ZERO = '00'.repeat(32);
/** The kernel's own measurements, after the firmware's log was closed. */
const IMA_PCR = 10;

describeWithPrograms('our disk, booted by its firmware with a TPM', MEASURED_MACHINE_PROGRAMS, () => {
  let directory: string;
  let machine: MeasuredMachine;
  let honest: MeasuredBoot;
  let missing: string | undefined;
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'vm-measured-'));
    const built = await devImage();
    if ('missing' in built) {
      missing = built.missing;
      return;
    }
    machine = await measuredMachine(join(directory, 'machine'), built.folder);
    honest = await machine.boot(machine.uki());
  }, BOOT_MS);
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** PCR 4 and 9 as `image measure` computes them. */
  const predicted = (uki: Uint8Array): string[] => {
    const { pcr4, pcr9 } = bootRegistersOf(uki);
    return [pcr4, pcr9];
  };
  const found = ({ pcrs }: MeasuredBoot): string[] => [pcrs[4]!, pcrs[9]!];

  test('vm-measured-boot: registers are those computed from the files, and the log replays to all of them', (context) => {
    if (missing !== undefined) return context.skip(missing);
    expect(found(honest)).toEqual(predicted(machine.uki()));
    expect(honest.commandLine).toBe(machine.commandLine);
    for (const untouched of [8, 11, 12, 13, 14]) expect(honest.pcrs[untouched]).toBe(ZERO);
    const log = parseBootLog(honest.log);
    expect(log.anomalies).toEqual([]);
    for (let index = 0; index < 16; index++) {
      if (index === IMA_PCR) continue;
      const digests = log.events
        .filter((event) => event.index === index && event.type !== EV_NO_ACTION)
        .map((event) => event.digests.get('sha256')!);
      expect([index, toHex(replayDigests(digests, 'sha256'))]).toEqual([index, honest.pcrs[index]]);
    }
  });

  test('vm-tampered-image: what is laid beside the image, or offered by the host, changes nothing', {
    timeout: BOOT_MS,
  }, async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const text = (line: string) => new TextEncoder().encode(line);
    // As systemd-stub takes them: add-ons are images with a command line and without a kernel.
    const addon = renameSection(machine.uki('systemd.unit=rescue.target rdinit=/bin/sh'), '.linux', '.other');
    const beside = {
      'EFI/BOOT/BOOTX64.EFI.extra.d/x.addon.efi': addon,
      'EFI/BOOT/BOOTX64.EFI.extra.d/x.cred': text('credential'),
      'EFI/BOOT/BOOTX64.EFI.extra.d/x.raw': text('extension'),
      'loader/addons/x.addon.efi': addon,
      'loader/credentials/x.cred': text('credential'),
      'loader/loader.conf': text('default x\n'),
      'loader/entries/x.conf': text('title x\nefi /EFI/BOOT/BOOTX64.EFI\noptions rdinit=/bin/sh\n'),
    };
    const strings = [
      'kernel-cmdline-extra=rdinit=/bin/sh',
      'kernel-cmdline-extra=systemd.unit=rescue.target',
    ];
    const smbios = strings.flatMap((value) => ['-smbios', `type=11,value=io.systemd.stub.${value}`]);
    const credential = ['-smbios', 'type=11,value=io.systemd.credential:x=y'];
    const boot = await machine.boot(machine.uki(), beside, [...smbios, ...credential]);
    expect([boot.commandLine, boot.files]).toEqual([honest.commandLine, honest.files]);
    for (const register of [2, 4, 7, 8, 9, 11, 12, 13, 14])
      expect([register, boot.pcrs[register]]).toEqual([register, honest.pcrs[register]]);
  });

  test('vm-tampered-image: one bit of the command line, the initramfs or another part shows in the registers', {
    timeout: BOOT_MS,
  }, async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const flip = (uki: Uint8Array, text: string): Uint8Array => {
      const at = Buffer.from(uki).indexOf(text);
      expect(at, text).toBeGreaterThan(0);
      uki[at]! ^= 1;
      return uki;
    };
    const [commandLine, initramfs, osRelease] = ['dstack.flavour=dev', 'BusyBox v', 'ID=test'];
    for (const text of [commandLine, initramfs, osRelease]) {
      const [pcr4, pcr9] = predicted(flip(machine.uki(), text));
      expect(pcr4, text).not.toBe(honest.pcrs[4]);
      expect(pcr9 === honest.pcrs[9], text).toBe(text === osRelease);
    }
    // What was computed is what the firmware measures: all three in one boot.
    const uki = [commandLine, initramfs, osRelease].reduce(flip, machine.uki());
    const boot = await machine.boot(uki);
    expect(boot.commandLine).toBe(honest.commandLine.replace('dstack.flavour=dev', 'estack.flavour=dev'));
    expect(found(boot)).toEqual(predicted(uki));
  });

  test('vm-tampered-image: a kernel image without its initrd does not boot, and says so', {
    timeout: BOOT_MS,
  }, async (context) => {
    if (missing !== undefined) return context.skip(missing);
    const uki = machine.uki();
    // The stub's table: magic, then place and size of command line, initrd and kernel.
    const table = Buffer.from(uki).indexOf('DSTKSTUB');
    new DataView(uki.buffer, uki.byteOffset).setUint32(table + 20, 0, true);
    const error = await machine.boot(uki).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(NoBoot);
    expect((error as NoBoot).console).toContain('dstack: this image has no kernel, command line or initrd');
  });
});

/** Renames a section in the table of a PE file. */
function renameSection(file: Uint8Array, from: string, to: string): Uint8Array {
  const out = file.slice();
  const at = Buffer.from(out).indexOf(from.padEnd(8, '\0'));
  out.set(new TextEncoder().encode(to.padEnd(8, '\0')), at);
  return out;
}
