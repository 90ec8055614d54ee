/** One machine in the foreground, with real QEMU. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { machineProcesses } from '../programs/machine-processes.ts';
import { parseConfig } from './config/load-config.ts';
import { runOneShot } from './one-shot.ts';
import { TINY_GREETING, writeTinyImage } from './test/tiny-image.ts';

let root: string;
let lines: string[];
let stop: AbortController;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-one-shot-'));
  for (const guest of ['sleeps', 'powers-off'] as const)
    writeTinyImage(join(root, 'image'), `tiny-${guest}`, guest);
  lines = [];
  stop = new AbortController();
});
afterEach(() => {
  stop.abort();
  rmSync(root, { recursive: true, force: true });
});

const dir = (): string => join(root, 'machine');

async function run(change: object, { dryRun = false, onLine = (_: string) => {} } = {}): Promise<number> {
  const file = join(root, 'vm.json');
  const wanted = { name: 'one', image: 'tiny-sleeps', vcpu: 1, memory: 256, disk_size: 1, no_tee: true };
  writeFileSync(file, typeof change === 'string' ? change : JSON.stringify({ ...wanted, ...change }));
  const config = parseConfig('[cvm]\nacceleration = "tcg"', 'vmm.toml');
  const paths = { run_path: join(root, 'vm'), image_path: join(root, 'image') };
  return await runOneShot(
    { ...config, ...paths },
    {
      ...{ file, workDir: dir(), dryRun, signal: stop.signal, hurry: new AbortController().signal },
      print: (line) => {
        lines.push(line);
        onLine(line);
      },
    },
  );
}

describeWithPrograms('run', ['qemu-system-x86_64'], () => {
  it('shows the command and makes nothing with --dry-run', async () => {
    expect(await run({}, { dryRun: true })).toBe(0);
    expect(lines[1]).toBe(`# folder ${dir()}`);
    expect(lines.at(-1)).toMatch(/qemu-system-x86_64 .* -smp 1 -m 256M .*serial=data/);
    expect(existsSync(dir())).toBe(false);
  }, 60_000);

  it('shows the console until it is told to stop, keeps the folder, and leaves nothing running', async () => {
    const onLine = (line: string) => void (line.includes(TINY_GREETING) && stop.abort());
    expect(await run({}, { onLine })).toBe(0);
    expect(lines).toContainEqual(expect.stringContaining(TINY_GREETING));
    expect(lines.at(-1)).toMatch(/^# ended; its files are in /);
    expect(existsSync(join(dir(), 'logs/serial.log'))).toBe(true);
    expect(machineProcesses(dir())).toEqual([]);
  }, 120_000);

  it('ends with another status than 0 when the guest ends before its application runs', async () => {
    expect(await run({ image: 'tiny-powers-off' })).not.toBe(0);
    expect(machineProcesses(dir())).toEqual([]);
  }, 120_000);

  it.each([
    ['what is no JSON', '{', /vm\.json is no configuration of a machine/],
    ['a member of another kind', { vcpu: 'many' }, /vm\.json is no configuration of a machine/],
    ['an image that is not there', { image: 'nowhere' }, /There is no OS image "nowhere"/],
    ['no disk', { disk_size: 0 }, /disk_size cannot be used/],
  ])('refuses %s, and makes nothing', async (_, change, message) => {
    await expect(run(change as object)).rejects.toThrow(message);
    expect(existsSync(dir())).toBe(false);
  });
});
