import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { attachedGpus } from './attached-gpus.ts';

const root = mkdtempSync(join(tmpdir(), 'gpus-'));
afterAll(() => rmSync(root, { recursive: true }));

const machine = (name: string, devices: readonly (readonly [vendor: string, kind: string])[]): string => {
  const bus = join(root, name, 'sys/bus/pci/devices');
  mkdirSync(bus, { recursive: true });
  for (const [index, [vendor, kind]] of devices.entries()) {
    mkdirSync(join(bus, `0000:00:0${index}.0`));
    writeFileSync(join(bus, `0000:00:0${index}.0`, 'vendor'), `${vendor}\n`);
    writeFileSync(join(bus, `0000:00:0${index}.0`, 'class'), `${kind}\n`);
  }
  return join(root, name);
};

it('counts what computes, and no emulated display, bridge or network card', () => {
  expect(
    attachedGpus(
      machine('h100', [
        ['0x10de', '0x030200'],
        ['0x8086', '0x060000'],
        ['0x1af4', '0x020000'],
      ]),
    ),
  ).toBe(1);
  expect(
    attachedGpus(
      machine('mi300', [
        ['0x1002', '0x120000'],
        ['0x1002', '0x038000'],
      ]),
    ),
  ).toBe(2);
  expect(
    attachedGpus(
      machine('qemu', [
        ['0x1234', '0x030000'],
        ['0x10de', '0x068000'],
      ]),
    ),
  ).toBe(0);
});

it('a machine without a PCI bus has none, one whose bus cannot be listed may have any number', () => {
  expect(attachedGpus(join(root, 'nothing'))).toBe(0);
  mkdirSync(join(root, 'odd/sys/bus/pci'), { recursive: true });
  writeFileSync(join(root, 'odd/sys/bus/pci/devices'), '');
  expect(attachedGpus(join(root, 'odd'))).toBeUndefined();
  mkdirSync(join(machine('nameless', []), 'sys/bus/pci/devices/0000:00:01.0'));
  expect(attachedGpus(join(root, 'nameless'))).toBeUndefined();
});
