import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const MODULE = fileURLToPath(new URL('./descriptor-output.ts', import.meta.url));
const NODE = [process.execPath, '--import', 'tsx', '-C', '@dstack/source', '--input-type=module', '-e'];

/** Writes lines of a kilobyte, and says on the other output for how long its event loop stood still. */
const writer = (lines: number): string => `
  const { DescriptorOutput } = await import(${JSON.stringify(MODULE)});
  const output = new DescriptorOutput(1, (count) => 'lost ' + count + '\\n');
  let [last, longest] = [performance.now(), 0];
  const watch = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  };
  for (let n = 0; n < ${lines}; n += 32) {
    let piece = '';
    for (let i = n; i < n + 32; i++) piece += String(i).padEnd(1023, '.') + '\\n';
    output.write(piece);
    if (n % 1024 === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      watch();
    }
  }
  for (let i = 0; i < 50; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    watch();
  }
  console.error(Math.round(longest));
  output.flushSync();`;

/** What was read, in order: numbers of lines, and how many were lost at the end. */
function read(text: string): { numbers: number[]; lost: number } {
  const lines = text.split('\n').filter((line) => line !== '');
  const numbers = lines.filter((line) => !line.startsWith('lost')).map((line) => Number.parseInt(line, 10));
  const lost = lines
    .filter((line) => line.startsWith('lost'))
    .reduce((sum, line) => sum + Number(line.slice(5)), 0);
  return { numbers, lost };
}

// A socket, which is what Node gives its children.
test('a reader that stands still holds up nobody, and gets everything when it reads again', async () => {
  const [command = '', ...args] = NODE;
  const child = spawn(command, [...args, writer(6_016)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [text, stall] = ['', ''];
  child.stderr.on('data', (chunk: Buffer) => {
    stall += chunk.toString();
  });
  await sleep(1_500);
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const [code] = (await once(child, 'close')) as [number];
  expect(code).toBe(0);
  const { numbers, lost } = read(text);
  expect(lost).toBe(0);
  expect(numbers).toEqual(Array.from({ length: 6_016 }, (_, n) => n));
  expect(Number(stall)).toBeLessThan(1_000);
}, 60_000);

test('of more than is held for such a reader the last lines are lost, and counted', () => {
  const quoted = [...NODE, writer(16_000)].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const { stdout } = spawnSync('sh', ['-c', `${quoted} | (sleep 1.5; cat)`], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    timeout: 60_000,
  });
  const { numbers, lost } = read(stdout);
  expect(lost).toBeGreaterThan(0);
  expect(numbers.length + lost).toBe(16_000);
  expect(numbers.length * 1024).toBeGreaterThan(7 * 2 ** 20);
  expect(numbers).toEqual(Array.from(numbers, (_, n) => n));
}, 60_000);

test('a reader that is gone ends nothing', () => {
  const quoted = [...NODE, writer(2_048)].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const run = spawnSync('sh', ['-c', `(${quoted} 2> /dev/null; echo "ended with $?" >&2) | true`], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  expect(run.stderr).toContain('ended with 0');
}, 120_000);
