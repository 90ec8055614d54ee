/** Equal and conflicting calls at once: one is done, the others are refused in words, and nothing is left half. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, vmm } from '@dstack-cloud/prpc';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { VmmError } from '../../errors.ts';
import { serviceIn, stoppedMachine } from '../test/service-in.ts';
import { writeTinyImage } from '../test/tiny-image.ts';
import { configurationOf } from './machine.ts';
import type { Machines } from './machines.ts';

let root: string;
let service: Machines;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-equal-'));
  for (const name of ['tiny-sleeps', 'other']) writeTinyImage(join(root, 'image'), name, 'sleeps');
  service = serviceIn(root, '[cvm]\nmax_cvm_number = 3\n[cvm.port_mapping]\nenabled = true');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const visible = (): string[] => readdirSync(join(root, 'vm')).filter((name) => !name.startsWith('.'));
const update = (change: object) => create(vmm.UpdateVmRequestSchema, change);
const codes = (results: readonly PromiseSettledResult<unknown>[]): string[] =>
  results.map((result) => {
    if (result.status === 'fulfilled') return 'done';
    expect(result.reason).toBeInstanceOf(VmmError);
    return (result.reason as VmmError).code;
  });

describeWithPrograms('calls at once', ['qemu-system-x86_64'], () => {
  it('make no more machines than are allowed, with ports and context ids of their own', async () => {
    const ports = [{ protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 18_081, vmPort: 80 }];
    const withPort = { ...stoppedMachine(), ports: ports.map((port) => create(vmm.PortMappingSchema, port)) };
    const all = [withPort, withPort, ...Array.from({ length: 4 }, stoppedMachine)];
    const results = codes(await Promise.allSettled(all.map((one) => service.create(one))));
    expect(results.sort()).toEqual(['done', 'done', 'done', 'no_resources', 'no_resources', 'port_in_use']);
    const machines = await service.list();
    expect(new Set(machines.map(({ manifest }) => manifest?.vm.cid)).size).toBe(3);
    expect(visible()).toHaveLength(3);
  });

  it('remove a machine once', async () => {
    const id = await service.create(stoppedMachine());
    const results = await Promise.allSettled([1, 2, 3].map(() => service.remove(id)));
    expect(codes(results).sort()).toEqual(['done', 'not_found', 'not_found']);
    expect(readdirSync(join(root, 'vm/.trash'))).toHaveLength(1);
  });

  it('change a machine one after the other: each is all of one change', async () => {
    const id = await service.create(stoppedMachine());
    const changes = [1, 2, 3, 4].map((vcpu) => update({ vcpu, userConfig: `turn ${vcpu}` }));
    await Promise.all(changes.map((change) => service.update(id, change)));
    const { manifest, ...machine } = await service.find(id);
    const after = await configurationOf({ manifest, ...machine }, manifest!);
    expect(after.userConfig).toBe(`turn ${after.vcpu}`);
  });

  it('in whatever order leave whole machines, with images that are there', async () => {
    type Call = 'create' | 'update' | 'remove' | 'delete image' | 'other image';
    const calls = fc.array(
      fc.constantFrom<Call>('create', 'update', 'remove', 'delete image', 'other image'),
      { minLength: 2, maxLength: 6 },
    );
    await fc.assert(
      fc.asyncProperty(calls, async (wanted) => {
        writeTinyImage(join(root, 'image'), 'other', 'sleeps');
        for (const { id } of await service.list()) await service.remove(id);
        const id = await service.create(stoppedMachine());
        const run: Record<Call, () => Promise<unknown>> = {
          create: () => service.create({ ...stoppedMachine(), image: 'other' }),
          update: () => service.update(id, update({ vcpu: 2 })),
          'other image': () => service.update(id, update({ image: 'other' })),
          remove: () => service.remove(id),
          'delete image': () => service.removeImage('other'),
        };
        codes(await Promise.allSettled(wanted.map((call) => run[call]())));
        const images = readdirSync(join(root, 'image'));
        for (const { manifest } of await service.list()) expect(images).toContain(manifest?.image);
        expect(visible().sort()).toEqual((await service.list()).map((machine) => machine.id).sort());
      }),
      { numRuns: 8 },
    );
  }, 120_000);
});
