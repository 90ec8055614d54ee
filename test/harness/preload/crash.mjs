// Loaded before the program under test: writes a line to TEST_TRACE before each file operation, and ends the process
// by SIGKILL at the one whose number is TEST_KILL_AT. What is on disk then is what a crash there would leave.
import { appendFileSync } from 'node:fs';
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

const killAt = Number(process.env.TEST_KILL_AT ?? 0);
const trace = process.env.TEST_TRACE;
let count = 0;

function step(name, argument) {
  count += 1;
  if (trace) appendFileSync(trace, `${name} ${typeof argument === 'string' ? argument : ''}\n`);
  if (count === killAt) process.kill(process.pid, 'SIGKILL');
}

function watch(object, names) {
  for (const name of names) {
    const real = object[name];
    object[name] = function (...args) {
      step(name, args[0]);
      return real.apply(this, args);
    };
  }
}

const handle = await promises.open(process.execPath, 'r');
watch(Object.getPrototypeOf(handle), [
  'writeFile',
  'write',
  'appendFile',
  'sync',
  'datasync',
  'chmod',
  'truncate',
]);
await handle.close();
watch(promises, ['open', 'mkdir', 'rename', 'rm', 'unlink', 'writeFile', 'appendFile', 'link']);
syncBuiltinESMExports();
