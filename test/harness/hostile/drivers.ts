/** Starts the processes of attackers and of genuine clients, and speaks with them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { repository } from '../run-command.ts';
import type { AttackOrder } from './attacker-process.ts';
import type { Material } from './attacks.ts';
import type { GenuineAnswer, GenuinePlan, GenuineRequest } from './genuine-process.ts';

const ATTACKERS_PRIORITY = 15;
/** An answer that comes later than so long after the end of an attack is none. */
const LATE_MS = 250;

/** What genuine clients got in some time. */
export type Service = { readonly perSecond: number; readonly servedPercent: number; readonly p99Ms: number };

function script(name: string): ChildProcess {
  const file = join(repository, 'test/harness/hostile', name);
  return spawn(process.execPath, ['--import', 'tsx', '-C', '@dstack/source', file], {
    cwd: repository,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
}

function ended(child: ChildProcess): Promise<void> {
  child.stdin?.end();
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once('exit', () => resolve());
  });
}

export function startAttackers(material: Material): {
  attack(order: AttackOrder): Promise<void>;
  stop(): Promise<void>;
} {
  const child = script('attacker-process.ts');
  // Attackers have machines of their own: what they compute here must not be what holds up the others.
  if (child.pid !== undefined) setPriority(child.pid, ATTACKERS_PRIORITY);
  const lines = createInterface({ input: child.stdout! });
  child.stdin?.write(`${JSON.stringify(material)}\n`);
  return {
    attack: (order) =>
      new Promise((resolve, reject) => {
        const died = (): void => reject(new Error('the attackers ended'));
        child.once('exit', died);
        lines.once('line', () => {
          child.off('exit', died);
          resolve();
        });
        child.stdin?.write(`${JSON.stringify(order)}\n`);
      }),
    stop: () => ended(child),
  };
}

export function startGenuine(plan: GenuinePlan): {
  /** What was asked for from one time to another (`Date.now()`), once it has been answered or was not in time. */
  served(from: number, to: number): Promise<Service>;
  stop(): Promise<void>;
} {
  const child = script('genuine-process.ts');
  const asked: number[] = [];
  const answers: GenuineAnswer[] = [];
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const said = JSON.parse(line) as GenuineRequest | GenuineAnswer;
    if ('ms' in said) answers.push(said);
    else asked.push(said.at);
  });
  child.stdin?.write(`${JSON.stringify(plan)}\n`);
  return {
    async served(from, to) {
      await new Promise((resolve) => setTimeout(resolve, LATE_MS));
      const isWithin = (at: number): boolean => at >= from && at < to;
      const good = answers.filter(({ at, isGood }) => isGood && isWithin(at)).map(({ ms }) => ms);
      good.sort((one, other) => one - other);
      const p99Ms =
        good[Math.min(good.length - 1, Math.floor(good.length * 0.99))] ?? Number.POSITIVE_INFINITY;
      return {
        perSecond: good.length / ((to - from) / 1_000),
        // Of what they asked for: on a busy machine they themselves ask less often than they would.
        servedPercent: (100 * good.length) / asked.filter(isWithin).length,
        p99Ms,
      };
    },
    stop: () => ended(child),
  };
}
