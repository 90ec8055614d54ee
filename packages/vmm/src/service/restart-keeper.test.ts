import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { INITIAL_STATE, writeState } from '../state/state.ts';
import { parseConfig } from './config/load-config.ts';
import type { Machine } from './machines/machine.ts';
import { RestartKeeper } from './restart-keeper.ts';

const { auto_restart } = parseConfig('', 'vmm.toml').cvm;
const diskFull = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });

let dir: string;
let isAlive: boolean;
let now: number;
let restarts: string[];
let told: string[];
let keeper: RestartKeeper;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vmm-keeper-'));
  await writeState(dir, { ...INITIAL_STATE, status: 'running' });
  isAlive = false;
  now = 0;
  restarts = [];
  told = [];
  const machines = {
    list: async () => ['first', 'second'].map((id) => machine(id, isAlive)),
    restart: async (id: string) => {
      restarts.push(id);
      throw diskFull;
    },
    isStopping: () => false,
    hasStopped: async (id: string) => void told.push(`${id} is not to run`),
  };
  keeper = new RestartKeeper(
    machines,
    auto_restart,
    {
      restarted: () => undefined,
      gaveUp: (id, attempts) => void told.push(`gave up ${id} after ${attempts}`),
      stopped: () => undefined,
      failed: (id, error) => void told.push(`${id}: ${(error as Error).message.slice(0, 6)}`),
    },
    () => now,
  );
});
afterEach(() => {
  keeper.close();
  rmSync(dir, { recursive: true });
});

/** One that is to run. Without life its supervisor is gone without having written why, or as its state says. */
function machine(id: string, isAlive: boolean): Machine {
  const state = { ...INITIAL_STATE, status: 'running' } as const;
  const record = { schema: 1, started: true } as const;
  const known = { id, record, manifest: undefined, isAlive, holdsHost: isAlive };
  return { ...known, status: { dir, name: id, manifest: undefined, state } };
}

describe('a machine that cannot be started again', () => {
  it('keeps neither the service from coming up nor the other machines from being started', async () => {
    await keeper.begin();
    expect(restarts).toEqual(['first', 'second']);
    expect(told).toEqual(['first: ENOSPC', 'second: ENOSPC']);
  });

  it('is tried with pauses that grow, and given up', async () => {
    await keeper.begin();
    const at: number[] = [];
    for (now = 0; now < 1_000_000; now += 2000) {
      const before = restarts.length;
      await keeper.look();
      if (restarts.length > before) at.push(now / 1000);
    }
    expect(at).toEqual([10, 30, 70, 150]);
    expect(told).toContain('gave up first after 5');
  });

  it('is tried again after somebody started it and it ran for long', async () => {
    await keeper.begin();
    for (now = 0; now < 200_000; now += 10_000) await keeper.look();
    isAlive = true;
    now += auto_restart.reset_window * 1000;
    await keeper.look();
    isAlive = false;
    restarts = [];
    for (let count = 0; count < 2; count += 1, now += 10_000) await keeper.look();
    expect(restarts).toEqual(['first', 'second']);
  });
});

it('leaves a machine off whose guest powered it off', async () => {
  isAlive = true;
  await keeper.begin();
  isAlive = false;
  await writeState(dir, { ...INITIAL_STATE, status: 'stopped' });
  await keeper.look();
  expect(told).toEqual(['first is not to run', 'second is not to run']);
  expect(restarts).toEqual([]);
});
