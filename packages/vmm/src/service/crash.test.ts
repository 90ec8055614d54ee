/** The service killed at each change of the file system: what it finds afterwards is all of the old or all of the new. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseSysConfig } from '@dstack-cloud/app';
import { create, vmm } from '@dstack-cloud/prpc';
import { changes, diskFullAt, killedAt } from '@dstack-cloud/test/crash-points';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { configurationOf } from './machines/machine.ts';
import type { Machines } from './machines/machines.ts';
import { serviceIn, stoppedMachine } from './test/service-in.ts';
import { appCompose } from './test/service-lab.ts';
import { writeTinyImage } from './test/tiny-image.ts';

vi.mock('node:fs/promises', async (load) =>
  (await import('@dstack-cloud/test/crash-points')).watchFiles(await load()),
);

let root: string;
let runPath: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-crash-'));
  runPath = join(root, 'vm');
  writeTinyImage(join(root, 'image'), 'tiny-sleeps', 'sleeps');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const service = (): Machines => serviceIn(root);

/** As `killedAt`; the locks of a killed process are free, and this one lives. */
async function kill(at: number, work: () => Promise<unknown>): Promise<boolean> {
  const happened = await killedAt(at, work);
  const names = readdirSync(root).includes('vm') ? readdirSync(runPath, { recursive: true }) : [];
  for (const name of names.map(String))
    if (name.includes(`.${process.pid}-`) && name.endsWith('.lock')) rmSync(join(runPath, name));
  return happened;
}

/** A machine that is all there can be read, changed and removed. */
async function configuration(id: string): Promise<object> {
  const machine = await service().find(id);
  expect(machine.manifest, JSON.stringify(machine.status)).toBeDefined();
  return await configurationOf(machine, machine.manifest!);
}

/** What the guest reads at its next boot. */
function toldKmsUrls(id: string): readonly string[] {
  return parseSysConfig(readFileSync(join(runPath, id, 'shared/.sys-config.json'))).kmsUrls;
}

describeWithPrograms('a service that is killed', ['qemu-system-x86_64'], () => {
  it('in the middle of CreateVm leaves a whole machine or none', async () => {
    const outcomes = new Set<number>();
    for (let at = 1; ; at += 1) {
      for (const { id } of await service().list()) await service().remove(id);
      if (!(await kill(at, () => service().create(stoppedMachine())))) break;
      const found = await service().list();
      outcomes.add(found.length);
      for (const { id, record } of found) {
        const { composeFile, kmsUrls } = stoppedMachine();
        expect(await configuration(id), `change ${at}`).toMatchObject({ composeFile, kmsUrls });
        expect(record.started).toBe(false);
        await service().update(id, { ...NO_CHANGE, vcpu: 2 });
        expect(await configuration(id)).toMatchObject({ vcpu: 2 });
      }
      if (at % 6 > 0) continue;
      const id = await service().create(stoppedMachine());
      expect(await configuration(id), `change ${at}`).toMatchObject({ vcpu: 1 });
    }
    expect(outcomes).toEqual(new Set([0, 1]));
    expect(changes()).toBeGreaterThan(8);
  }, 120_000);

  it('in the middle of UpdateVm leaves all of the old or all of the new', async () => {
    const id = await service().create(stoppedMachine());
    const change = (turn: number) => ({
      ...NO_CHANGE,
      composeFile: appCompose({ name: `web${turn}` }),
      userConfig: `turn ${turn}`,
      vcpu: 1 + (turn % 3),
      ...{ updateKmsUrls: true, kmsUrls: [`https://kms${turn}.example.com`] },
    });
    await killedAt(Number.MAX_SAFE_INTEGER, () => service().update(id, change(0)));
    const all = changes();
    expect(all).toBeGreaterThan(8);
    const outcomes = new Set<boolean>();
    for (let at = 1; at <= all; at += 1) {
      const before = JSON.stringify(await configuration(id));
      expect(await kill(at, () => service().update(id, change(at))), `change ${at}`).toBe(true);
      // As the next start, or the next update, finishes what was decided.
      await service().update(id, NO_CHANGE);
      const after = await configuration(id);
      const isNew = JSON.stringify(after) !== before;
      outcomes.add(isNew);
      if (isNew) {
        const { composeFile, userConfig, vcpu, kmsUrls } = change(at);
        expect(after, `change ${at}`).toMatchObject({ composeFile, userConfig, vcpu, kmsUrls });
        expect(toldKmsUrls(id), `change ${at}`).toEqual(kmsUrls);
      }
      const folder = readdirSync(join(runPath, id));
      expect(folder.filter((name) => name.startsWith('.update'))).toEqual([]);
    }
    expect(outcomes).toEqual(new Set([false, true]));
  }, 120_000);

  it('in the middle of RemoveVm leaves the machine where it was, or in the trash', async () => {
    for (let at = 1; ; at += 1) {
      const id = await service().create(stoppedMachine());
      const killed = await kill(at, () => service().remove(id));
      const isThere = (await service().list()).some((machine) => machine.id === id);
      if (isThere) {
        await configuration(id);
        await service().remove(id);
      }
      const trashed = readdirSync(join(runPath, '.trash')).find((name) => name.startsWith(id));
      expect(readFileSync(join(runPath, '.trash', trashed!, 'vm-manifest.json'), 'utf8')).toContain(id);
      if (!killed) break;
      expect(at).toBeLessThan(50);
    }
  }, 120_000);
});

describeWithPrograms('a disk that gets full', ['qemu-system-x86_64'], () => {
  it('does not keep machines from being removed', async () => {
    mkdirSync(runPath, { mode: 0o700 });
    await service().settle();
    const id = await service().create(stoppedMachine());
    const { error } = await diskFullAt(1, () => service().remove(id));
    expect(error).toBeUndefined();
    expect(readdirSync(join(runPath, '.trash'))).toHaveLength(1);
  });

  it('in the middle of CreateVm leaves no machine, and says so', async () => {
    await service().create(stoppedMachine());
    const present = (): string[] =>
      readdirSync(runPath)
        .filter((name) => !name.endsWith('.lock'))
        .sort();
    const before = present();
    for (let at = 1; ; at += 1) {
      const { refused, error } = await diskFullAt(at, () => service().create(stoppedMachine()));
      if (refused === 0) break;
      expect(error, `change ${at}`).toMatchObject({ message: expect.stringMatching(/no space|ENOSPC/i) });
      expect(present(), `change ${at}`).toEqual(before);
      expect(at).toBeLessThan(100);
    }
    expect(present()).toHaveLength(before.length + 1);
  }, 120_000);

  it('in the middle of UpdateVm leaves all of the old or all of the new', async () => {
    const id = await service().create(stoppedMachine());
    const all = { composeFile: appCompose({ name: 'new' }), userConfig: 'new', vcpu: 2 };
    const old = await configuration(id);
    for (let at = 1; ; at += 1) {
      const { refused, error } = await diskFullAt(at, () => service().update(id, { ...NO_CHANGE, ...all }));
      // As the next start, or the next update, finishes what was decided.
      await service().update(id, NO_CHANGE);
      const after = await configuration(id);
      if (refused === 0) {
        expect([error, after]).toEqual([undefined, expect.objectContaining(all)]);
        break;
      }
      if (error !== undefined)
        expect(error, `change ${at}`).toHaveProperty('message', expect.stringMatching(/no space|ENOSPC/i));
      if (JSON.stringify(after) !== JSON.stringify(old)) {
        expect(after, `change ${at}`).toMatchObject(all);
        const { composeFile, userConfig, vcpu } = stoppedMachine();
        await service().update(id, { ...NO_CHANGE, composeFile, userConfig: userConfig || ' ', vcpu });
        await service().remove(id);
        break;
      }
      expect(at).toBeLessThan(100);
    }
  }, 120_000);
});

const NO_CHANGE = create(vmm.UpdateVmRequestSchema);
