/** What somebody may leave in the run folder: links, copies, foreign files; and two services that want the same one. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, vmm } from '@dstack-cloud/prpc';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from './config/load-config.ts';
import type { VmmConfig } from './config/vmm-config.ts';
import { serve } from './serve.ts';
import { serviceIn, stoppedMachine } from './test/service-in.ts';
import { writeTinyImage } from './test/tiny-image.ts';

const OTHER = '11111111-2222-4333-8444-555555555555';

let root: string;
let runPath: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-folder-'));
  runPath = join(root, 'vm');
  writeTinyImage(join(root, 'image'), 'tiny-sleeps', 'sleeps');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const NO_CHANGE = create(vmm.UpdateVmRequestSchema);

describeWithPrograms('a machine’s folder', ['qemu-system-x86_64'], () => {
  it('that was copied is listed as damaged, starts and changes nothing, and can be removed', async () => {
    const service = serviceIn(root);
    const id = await service.create(stoppedMachine());
    cpSync(join(runPath, id), join(runPath, OTHER), { recursive: true });
    const copy = await service.find(OTHER);
    expect(copy.manifest).toBeUndefined();
    await expect(service.start(OTHER)).rejects.toMatchObject({ code: 'damaged' });
    await expect(service.update(OTHER, { ...NO_CHANGE, vcpu: 2 })).rejects.toMatchObject({ code: 'damaged' });
    await service.remove(OTHER);
    expect((await service.list()).map((machine) => machine.id)).toEqual([id]);
    // The copy’s removal took nothing of the machine’s.
    await service.update(id, { ...NO_CHANGE, vcpu: 2 });
  });

  it('that was moved to another run folder says where it belongs', async () => {
    const id = await serviceIn(root).create(stoppedMachine());
    const other = mkdtempSync(join(tmpdir(), 'vmm-folder-'));
    try {
      mkdirSync(join(other, 'vm'), { mode: 0o700 });
      cpSync(join(root, 'image'), join(other, 'image'), { recursive: true });
      renameSync(join(runPath, id), join(other, 'vm', id));
      await expect(serviceIn(other).start(id)).rejects.toMatchObject({
        ...{ code: 'moved', message: expect.stringContaining(join(runPath, id)) },
      });
    } finally {
      rmSync(other, { recursive: true, force: true });
    }
  });

  it('that is a link leads nobody out of the run folder', async () => {
    const service = serviceIn(root);
    const id = await service.create(stoppedMachine());
    const elsewhere = join(root, 'elsewhere');
    renameSync(join(runPath, id), elsewhere);
    symlinkSync(elsewhere, join(runPath, id));
    const before = readdirSync(elsewhere, { recursive: true }).sort();
    const manifest = readFileSync(join(elsewhere, 'vm-manifest.json'));
    for (const change of [
      () => service.start(id),
      () => service.update(id, { ...NO_CHANGE, vcpu: 2 }),
      () => service.remove(id),
    ])
      await expect(change()).rejects.toThrow();
    expect(readdirSync(elsewhere, { recursive: true }).sort()).toEqual(before);
    expect(readFileSync(join(elsewhere, 'vm-manifest.json'))).toEqual(manifest);
  });
});

describe('what is no machine', () => {
  it('is neither listed, counted nor touched', async () => {
    mkdirSync(runPath, { mode: 0o700 });
    const names = ['a\nb', ' ', '-rf', 'x'.repeat(200), '…', `${OTHER}x`, OTHER.toUpperCase()];
    for (const name of names) mkdirSync(join(runPath, name));
    writeFileSync(join(runPath, 'notes.txt'), 'mine');
    const service = serviceIn(root);
    await service.settle();
    expect(await service.list()).toEqual([]);
    expect(await service.reload()).toEqual({ loaded: 0, updated: 0, removed: 0 });
    for (const id of [...names, 'notes.txt', '.', '..', '../vm', '', '.trash'])
      await expect(service.remove(id)).rejects.toMatchObject({ code: 'not_found' });
    expect(readdirSync(runPath).filter((name) => name !== '.trash' && !name.endsWith('.lock')).length).toBe(
      names.length + 1,
    );
  });

  it('such as a file with the name of a machine, is refused and stays', async () => {
    mkdirSync(runPath, { mode: 0o700 });
    writeFileSync(join(runPath, OTHER), 'mine');
    const service = serviceIn(root);
    for (const change of [() => service.start(OTHER), () => service.stop(OTHER), () => service.remove(OTHER)])
      await expect(change()).rejects.toThrow();
    expect(readFileSync(join(runPath, OTHER), 'utf8')).toBe('mine');
  });
});

describe('two services', () => {
  it('do not have one run folder: the second is refused, and may have it after the first', async () => {
    const log = pino({ level: 'silent' });
    const config = (name: string): VmmConfig => ({
      ...parseConfig('[discovery]\nenabled = false', 'vmm.toml'),
      ...{ run_path: runPath, image_path: join(root, 'image'), address: `unix:${join(root, name)}` },
    });
    const first = new AbortController();
    let isReady: () => void = () => undefined;
    const ready = new Promise<void>((resolve) => {
      isReady = resolve;
    });
    const served = serve(config('one.sock'), first.signal, { log, ready: () => isReady() });
    await ready;
    await expect(serve(config('two.sock'), first.signal, { log })).rejects.toMatchObject({ code: 'locked' });
    expect(existsSync(join(root, 'two.sock'))).toBe(false);
    first.abort();
    await served;
    expect(existsSync(join(root, 'one.sock'))).toBe(false);
    const second = new AbortController();
    await serve(config('two.sock'), second.signal, { log, ready: () => second.abort() });
  });
});
