/** Takes the lock of a folder, says so, and holds it until it is killed or told to let go by its input's end. */
import { withLock } from './lock.ts';

const [folder = '', counter = ''] = process.argv.slice(2);
if (counter === '') {
  await withLock(folder, 'test', { waitMs: 20_000, what: 'The test' }, async () => {
    process.stdout.write('held\n');
    await new Promise((resolve) => process.stdin.once('end', resolve).resume());
  });
} else {
  const { readFileSync, writeFileSync } = await import('node:fs');
  const { setTimeout: sleep } = await import('node:timers/promises');
  for (let i = 0; i < 10; i += 1) {
    await withLock(folder, 'test', { waitMs: 60_000, what: 'The counter' }, async () => {
      const before = Number(readFileSync(counter, 'utf8'));
      await sleep(1);
      writeFileSync(counter, String(before + 1));
    });
  }
}
