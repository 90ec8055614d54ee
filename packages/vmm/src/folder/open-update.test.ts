import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killedAt } from '@dstack-cloud/test/crash-points';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createCvm } from '../change/create-cvm.ts';
import type { CreateOptions } from '../change/create-options.ts';
import { closeUpdate, type UpdateOptions, updateCvm } from '../change/update-cvm.ts';
import { hasOpenUpdate } from './open-update.ts';

vi.mock('node:fs/promises', async (load) =>
  (await import('@dstack-cloud/test/crash-points')).watchFiles(await load()),
);

let root: string;
let options: CreateOptions;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const revision = (letter: string): CreateOptions => ({
  ...options,
  name: letter,
  shared: {
    'app-compose.json': bytes(letter),
    '.sys-config.json': bytes(letter),
    ...(letter === 'A' ? { '.user-config': bytes(letter) } : { '.encrypted-env': bytes(letter) }),
  },
});

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'open-update-'));
  const dir = join(root, 'vm/one');
  options = {
    dir,
    name: '',
    appId: '33'.repeat(20),
    image: 'dstack-sim-0.1',
    shared: {},
    seedFile: join(root, 'seed'),
  };
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

/** All that the machine is, as text. */
function machine(): object {
  const read = (...names: string[]): string => readFileSync(join(options.dir, ...names), 'utf8');
  // Half-written files of a killed process are swept later: this one lives.
  const names = readdirSync(join(options.dir, 'shared')).filter((name) => !name.endsWith('.tmp'));
  return {
    name: (JSON.parse(read('vm-manifest.json')) as { name: string }).name,
    shared: names.sort().map((name) => [name, read('shared', name)]),
    data: existsSync(join(options.dir, 'guest/dstack/persistent/data')),
    rest: existsSync(join(options.dir, 'guest/rest')),
  };
}

/** As `killedAt`; the lock of a killed process is free, and this one lives. */
async function kill(at: number, work: () => Promise<unknown>): Promise<boolean> {
  const happened = await killedAt(at, work);
  for (const name of readdirSync(options.dir)) if (name.endsWith('.lock')) rmSync(join(options.dir, name));
  return happened;
}

async function fresh(): Promise<object> {
  rmSync(join(root, 'vm'), { recursive: true, force: true });
  await createCvm(revision('A'));
  mkdirSync(join(options.dir, 'guest/dstack/persistent'), { recursive: true });
  writeFileSync(join(options.dir, 'guest/dstack/persistent/data'), '');
  writeFileSync(join(options.dir, 'guest/rest'), '');
  return machine();
}

const KINDS: readonly UpdateOptions[] = [{ open: true }, { fresh: true }];

describe.each(KINDS)('an open update %j', (kind) => {
  const update = () => updateCvm(revision('B'), kind);

  it('holds, or is taken back', async () => {
    const before = await fresh();
    const { id } = await update();
    const after = machine();
    expect(after).toMatchObject({ name: 'B', data: true, rest: kind.fresh !== true });
    expect(hasOpenUpdate(options.dir)).toBe(true);
    expect(await closeUpdate(options.dir, 'undo')).toBe(true);
    expect(machine()).toEqual(before);
    expect(await closeUpdate(options.dir, 'undo')).toBe(false);
    expect((await update()).id).toBe(id);
    expect(await closeUpdate(options.dir, 'confirm')).toBe(true);
    expect(machine()).toEqual(after);
    expect(readdirSync(options.dir).filter((name) => name.startsWith('.'))).toEqual([]);
  });
});

// Such an update does everything that the other kind does.
describe('an open update after a kill', () => {
  const update = () => updateCvm(revision('B'), { fresh: true });

  it('is taken back, killed at any moment, also once more while it is taken back', async () => {
    let killed = true;
    for (let at = 1; killed; at += 1) {
      const before = await fresh();
      killed = await kill(at, update);
      // What the next command does.
      if (at % 2 === 0) await kill(1 + (at % 7), () => closeUpdate(options.dir, 'undo'));
      await closeUpdate(options.dir, 'undo');
      expect(machine(), `killed at ${at}`).toEqual(before);
      expect(at).toBeLessThan(200);
    }
  });

  it('holds, killed at any moment of letting it hold', async () => {
    let killed = true;
    for (let at = 1; killed; at += 1) {
      await fresh();
      await update();
      const after = machine();
      killed = await kill(at, () => closeUpdate(options.dir, 'confirm'));
      await closeUpdate(options.dir, 'confirm');
      expect(machine(), `killed at ${at}`).toEqual(after);
      await update();
      await closeUpdate(options.dir, 'confirm');
      expect(readdirSync(options.dir).filter((name) => name.startsWith('.'))).toEqual([]);
    }
  });
});
