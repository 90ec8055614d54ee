import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { LineBuffer } from './line-buffer.ts';

function recording() {
  const pieces: string[] = [];
  const calls: string[] = [];
  const output = {
    write: (text: string) => pieces.push(text),
    flushSync: () => void calls.push('flushSync'),
  };
  return { output, pieces, calls };
}

test('passes lines on in order, in pieces no longer than allowed', () => {
  const { output, pieces } = recording();
  const buffer = new LineBuffer(output, 100);
  const lines = Array.from({ length: 50 }, (_, index) => `${index} ${'é'.repeat(index % 7)}\n`);
  for (const line of lines) buffer.write(line);
  expect(pieces.length).toBeGreaterThan(1);
  buffer.flush();
  expect(pieces.join('')).toBe(lines.join(''));
  expect(pieces.length).toBeLessThan(lines.length / 5);
  for (const piece of pieces) expect(Buffer.byteLength(piece)).toBeLessThanOrEqual(100);
});

test('a line that is longer is a piece of its own, after those before it', () => {
  const { output, pieces } = recording();
  const buffer = new LineBuffer(output, 10);
  buffer.write('a\n');
  buffer.write('b'.repeat(20));
  buffer.write('c\n');
  buffer.flush();
  expect(pieces).toEqual(['a\n', 'b'.repeat(20), 'c\n']);
});

test('waits for the output when it must, and passes nothing when there is nothing', () => {
  const { output, pieces, calls } = recording();
  const buffer = new LineBuffer(output, 10);
  buffer.flush();
  buffer.write('a\n');
  buffer.flushSync();
  expect(pieces).toEqual(['a\n']);
  expect(calls).toEqual(['flushSync']);
});

test.each([
  'process.exit(3)',
  'await new Promise((resolve) => setTimeout(resolve, 150)); process.exit(3)',
  'throw new Error("crash")',
  'log.fatal("last"); process.kill(process.pid, "SIGKILL")',
])(
  'a process that ends by %s loses no line',
  (end) => {
    const module = fileURLToPath(new URL('./log.ts', import.meta.url));
    const script = `const { createLog } = await import(${JSON.stringify(module)});
      const log = createLog('info');
      for (let n = 0; n < 2000; n++) log.info({ n }, 'line');
      ${end};`;
    const run = spawnSync(
      process.execPath,
      ['--import', 'tsx', '-C', '@dstack/source', '--input-type=module', '-e', script],
      { encoding: 'utf8', timeout: 60_000 },
    );
    const lines = run.stdout.split('\n').filter((line) => line.includes('"msg":"line"'));
    expect(lines.map((line) => (JSON.parse(line) as { n: number }).n)).toEqual(
      Array.from({ length: 2000 }, (_, n) => n),
    );
  },
  90_000,
);
