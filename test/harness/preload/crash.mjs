// Loaded before the program under test: writes a line to TEST_TRACE before each file operation, or with TEST_STEPS=network
// before each connection that it opens and each piece that it sends or receives, and ends the process by SIGKILL at the
// one whose number is TEST_KILL_AT. What is on disk then is what a crash there would leave.
import { appendFileSync } from 'node:fs';
import promises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { Socket } from 'node:net';

const killAt = Number(process.env.TEST_KILL_AT ?? 0);
const trace = process.env.TEST_TRACE;
let count = 0;

function step(name, argument) {
  count += 1;
  const text = typeof argument === 'string' ? argument.split('\r\n')[0] : '';
  if (trace) appendFileSync(trace, `${name} ${text}\n`);
  if (count === killAt) process.kill(process.pid, 'SIGKILL');
}

function watch(object, names) {
  for (const name of names) {
    const real = object[name];
    object[name] = function (...args) {
      // Standard output may be a socket too: it has its descriptor.
      if (!(this instanceof Socket) || this.fd === undefined) step(name, args[0]);
      return real.apply(this, args);
    };
  }
}

if (process.env.TEST_STEPS === 'network') {
  // What a TLS socket sends and receives passes here in the clear.
  watch(Socket.prototype, ['connect', '_write', '_writev', 'push']);
} else {
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
}
