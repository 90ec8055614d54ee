import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { processIdentity } from '@dstack-cloud/files';
import { afterEach, expect, it } from 'vitest';

const guardUrl = pathToFileURL(join(dirname(fileURLToPath(import.meta.url)), 'guard.ts')).href;
const started: number[] = [];
afterEach(() => {
  for (const pid of started.splice(0)) if (processIdentity(pid)) process.kill(pid, 'SIGKILL');
});

/** A program that guards two processes, of which it forgets one, and then does `last`. */
async function owner(last: string): Promise<{ child: ChildProcess; kept: number; forgotten: number }> {
  const source = `
    import { spawn } from 'node:child_process';
    import { Guard } from ${JSON.stringify(guardUrl)};
    const guard = new Guard();
    const one = () => spawn('sleep', ['60'], { stdio: 'ignore', detached: true });
    const kept = one(), forgotten = one();
    guard.watchGroup(kept.pid); guard.watchProcess(forgotten.pid); guard.forget(forgotten.pid);
    console.log(kept.pid + ' ' + forgotten.pid);
    kept.unref(); forgotten.unref();
    ${last}`;
  const tsx = import.meta.resolve('tsx');
  const child = spawn(process.execPath, ['--import', tsx, '--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  const [kept, forgotten] = line.toString('utf8').trim().split(' ').map(Number) as [number, number];
  started.push(kept, forgotten);
  return { child, kept, forgotten };
}

it('ends what it watches when its owner is killed, and nothing else', async () => {
  const { child, kept, forgotten } = await owner('setInterval(() => 0, 1000);');
  await sleep(100);
  child.kill('SIGKILL');
  for (let i = 0; i < 40 && processIdentity(kept) !== undefined; i += 1) await sleep(100);
  expect(processIdentity(kept)).toBeUndefined();
  expect(processIdentity(forgotten)).toBeDefined();
});

it('touches nobody when it is released, and lets its owner end well', async () => {
  const { child, kept } = await owner('await guard.release();');
  const [code] = child.exitCode === null ? ((await once(child, 'exit')) as [number]) : [child.exitCode];
  expect(code).toBe(0);
  await sleep(300);
  expect(processIdentity(kept)).toBeDefined();
});
