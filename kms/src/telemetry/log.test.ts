import { expect, test } from 'vitest';
import { createLog } from './log.ts';

test('what peers and chains say forges no line, commands no terminal, and keeps its value', () => {
  const written: string[] = [];
  const log = createLog('info', { write: (line) => written.push(line) });
  const reason = 'no\n{"level":60,"msg":"forged"}\u001b[2J\u009b31m\u202e\u200b\u2028';
  log.warn({ reason }, 'refused \u202e');
  expect(written).toHaveLength(1);
  expect(written[0]).toMatch(/^[\x20-\x7e]*\n$/);
  expect(JSON.parse(written[0]!)).toMatchObject({ reason, msg: 'refused \u202e' });
});

test('a large text is cut', () => {
  const written: string[] = [];
  createLog('info', { write: (line) => written.push(line) }).warn({ reason: 'x'.repeat(1e6) }, 'refused');
  expect(written.join('').length).toBeLessThan(4096);
});
