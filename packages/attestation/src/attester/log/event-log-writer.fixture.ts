/** A second process of the tests: emits ten events, or dies between extension and line. */
import { appendFileSync } from 'node:fs';
import { RuntimeEventLog } from './runtime-event-log.ts';

const [path = '', register = '', name = ''] = process.argv.slice(2);
const log = new RuntimeEventLog(path);
for (let i = 0; i < 10; i++) {
  await log.emit({ event: `${name}${i}`, payload: new Uint8Array() }, async () => {
    if (name === 'die') process.kill(process.pid, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 2));
    appendFileSync(register, `${name}${i}\n`);
  });
}
