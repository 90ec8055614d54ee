import { create, vmm } from '@dstack-cloud/prpc';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VmManifest } from '../../manifest/manifest.ts';
import type { VmGpus } from '../../manifest/vm-settings.ts';
import { HardwareLab } from '../../test/hardware-lab.ts';
import { parseConfig } from '../config/load-config.ts';
import { claims, offeredGpus, requireUnclaimed, roundedSize, wantedGpus } from './gpus.ts';
import type { Machine } from './machine.ts';

let lab: HardwareLab;
beforeEach(() => {
  lab = new HardwareLab();
  lab.device('0000:18:00.0');
  lab.device('0000:2a:00.0', { isBusMaster: true });
  lab.device('0000:9a:00.0', { device: '0x2330', node: 1 });
  lab.device('0000:05:00.0', { device: '0x22a3', class: '0x068000' });
});
afterEach(() => lab.cleanUp());

const config = (lines = '') => parseConfig(`[cvm.gpu]\nenabled = true\n${lines}`, 'vmm.toml').cvm.gpu;
const asked = (attachMode: string, ...slots: string[]) =>
  create(vmm.GpuConfigSchema, { attachMode, gpus: slots.map((slot) => ({ slot })) });
const wanted = (request: vmm.GpuConfig | undefined, lines = '') =>
  wantedGpus(request, config(lines), lab.host);

describe('GPUs of this host', () => {
  it('are offered by product, without the excluded ones', async () => {
    const slots = async (lines = '') =>
      (await offeredGpus(config(lines), lab.host)).map(({ slot, isInUse }) => [slot, isInUse]);
    expect(await slots()).toEqual([
      ['18:00.0', false],
      ['2a:00.0', true],
    ]);
    expect(await slots('listing = ["10de:2335", "10de:2330"]\nexclude = ["0000:18:00.0"]')).toEqual([
      ['2a:00.0', true],
      ['9a:00.0', false],
    ]);
    expect(await slots('include = ["2a:00.0"]')).toEqual([['2a:00.0', true]]);
    expect(await offeredGpus(parseConfig('', 'vmm.toml').cvm.gpu, lab.host)).toEqual([]);
  });

  it('are given by address, or all of them with the switches between them', async () => {
    expect(await wanted(undefined)).toBeNull();
    expect(await wanted(asked('listed'))).toBeNull();
    expect(await wanted(asked('listed', '0000:18:00.0'))).toEqual({
      ...{ attach_mode: 'listed', gpus: [{ slot: '18:00.0' }], bridges: [] },
    });
    const all = await wanted(asked('all'), 'exclude = ["2a:00.0"]');
    expect(all).toEqual({
      ...{ attach_mode: 'all', gpus: [{ slot: '18:00.0' }, { slot: '9a:00.0' }] },
      bridges: [{ slot: '05:00.0' }],
    });
    expect(await roundedSize({ vcpu: 3, memory: 3000, hugepages: true, gpus: all }, lab.host)).toEqual({
      ...{ vcpu: 4, memory: 4096 },
    });
  });

  it.each<[string, vmm.GpuConfig, string, RegExp]>([
    ['one of another product', asked('listed', '9a:00.0'), '', /not offered/],
    ['an excluded one', asked('listed', '18:00.0'), 'exclude = ["18:00.0"]', /not offered/],
    ['a switch', asked('listed', '05:00.0'), '', /not offered/],
    ['what is no address', asked('listed', '18:00.0,x=y'), '', /not offered/],
    ['one twice', asked('listed', '18:00.0', '0000:18:00.0'), '', /asked for twice/],
    ['another mode', asked('some', '18:00.0'), '', /attach_mode/],
    ['all, where that is not allowed', asked('all'), 'allow_attach_all = false', /allow_attach_all/],
    ['all, where there are none', asked('all'), 'include = ["77:00.0"]', /no GPUs/],
    ['one where none are given', asked('listed', '18:00.0'), 'enabled = false', /cvm\.gpu\.enabled/],
  ])('are refused: %s', async (_, request, lines, message) => {
    const gpu = lines.startsWith('enabled') ? parseConfig('', 'vmm.toml').cvm.gpu : config(lines);
    await expect(wantedGpus(request, gpu, lab.host)).rejects.toSatisfy(
      (error: Error & { expected: string }) => message.test(`${error.message} ${error.expected}`),
    );
  });

  it('belong to one machine that runs, or is to run, at a time', () => {
    const gpus = (slot: string): VmGpus => ({ attach_mode: 'listed', gpus: [{ slot }], bridges: [] });
    const machine = (name: string, slot: string, holdsHost: boolean, started: boolean) =>
      ({
        holdsHost,
        record: { schema: 1, started },
        manifest: manifest(name, gpus(slot)),
      }) as unknown as Machine;
    const others = [
      machine('runs', '18:00.0', true, false),
      machine('restarts', '2a:00.0', false, true),
      machine('off', '9a:00.0', false, false),
    ];
    expect([...claims(others)]).toEqual([
      ['18:00.0', 'runs'],
      ['2a:00.0', 'restarts'],
    ]);
    expect(() => requireUnclaimed(gpus('18:00.0'), others)).toThrow(/18:00\.0 belongs to runs/);
    expect(() => requireUnclaimed(gpus('2a:00.0'), others)).toThrow(/belongs to restarts/);
    expect(() => requireUnclaimed(gpus('9a:00.0'), others)).not.toThrow();
    expect(() => requireUnclaimed(null, others)).not.toThrow();
  });
});

const manifest = (name: string, gpus: VmGpus) => ({ name, vm: { gpus } }) as VmManifest;
