/** A start that fails leaves nothing open: another one works at once, in the same process. */
import { readdirSync, readlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { GuestAgent } from './agent/guest-agent.ts';
import { commitKeyFiles } from './key-directory/commit.ts';
import { lockAuditDirectory, lockKeyDirectory } from './key-directory/lock.ts';
import { type Lab, labKeys, openLab } from './test/lab.ts';
import { agentOf } from './test/simulated-guest.ts';

let lab: Lab;
let taken: Server;
let port: number;
beforeAll(async () => {
  lab = await openLab();
  taken = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => taken.once('listening', resolve));
  port = (taken.address() as { port: number }).port;
});
afterAll(async () => {
  taken.close();
  await lab.close();
});

/** What the descriptors of this process are of. */
const descriptors = (): string[] =>
  readdirSync('/proc/self/fd').flatMap((name) => {
    try {
      return [readlinkSync(`/proc/self/fd/${name}`)];
    } catch {
      // That of the listing itself.
      return [];
    }
  });
const sockets = (): string[] => descriptors().filter((target) => target.startsWith('socket:'));

function countingAgent(): GuestAgent & { closed: number } {
  const agent = {
    ...agentOf(lab.guest()),
    closed: 0,
    close: () => {
      agent.closed += 1;
    },
  };
  return agent;
}

describe.each<[string, () => object, string]>([
  ['main', () => ({ rpc: { port } }), 'Cannot listen on 127.0.0.1 port'],
  [
    'admin',
    () => ({ core: { admin: { enabled: true, address: '127.0.0.1', port, auth_token: 'a'.repeat(32) } } }),
    'Cannot listen on 127.0.0.1 port',
  ],
  [
    'admin without its passwords',
    () => ({ core: { admin: { enabled: true, address: '127.0.0.1', port, htpasswd_file: '/nowhere' } } }),
    'nowhere',
  ],
])('the %s listener cannot start', (name, overrides, reason) => {
  test('files, sockets and locks are free, and the next start succeeds', async () => {
    const directory = join(lab.directory, name.replaceAll(' ', '-'));
    await commitKeyFiles(directory, await labKeys());
    const before = sockets();
    const agent = countingAgent();
    const options = { agent };
    await expect(lab.start({ directory, options, ...overrides() })).rejects.toThrow(reason);
    expect(agent.closed).toBe(1);
    expect(descriptors().filter((target) => target.startsWith(directory))).toEqual([]);
    await expect.poll(() => sockets().filter((one) => !before.includes(one))).toEqual([]);
    for (const lock of [
      await lockKeyDirectory(directory),
      await lockAuditDirectory(join(directory, 'audit')),
    ]) {
      await lock.release();
    }
    const running = await lab.start({ directory });
    expect(running.main.port).toBeGreaterThan(0);
  });
});

test('processes that were begun are ended before the log is closed', async () => {
  const order: string[] = [];
  const front = {
    service: {
      exposition: async () => '',
      workers: async () => ({ configured: 1, serving: 0, started: false }),
    },
    prepare: () => void order.push('prepare'),
    start: async (kms: { audit: { head(): Promise<unknown> } }) => {
      await kms.audit.head();
      order.push('start');
      throw new Error('no worker serves');
    },
    imagesCleared: () => undefined,
    stop: async () => {
      const isOpen = descriptors().some((target) => target.includes('/fronted/audit/'));
      order.push(isOpen ? 'stop before the log' : 'stop');
    },
  };
  const directory = join(lab.directory, 'fronted');
  await commitKeyFiles(directory, await labKeys());
  await expect(lab.start({ directory, options: { front } })).rejects.toThrow('no worker serves');
  expect(order.slice(0, 3)).toEqual(['prepare', 'start', 'stop before the log']);
  await expect(lab.start({ directory })).resolves.toBeDefined();
});

describe('one audit log for two services', () => {
  test('is refused to the second, whatever path leads there, until the first has ended', async () => {
    const dir = join(lab.directory, 'shared-audit');
    const first = await lab.start({ core: { audit: { dir } } });
    const second = () => lab.start({ core: { audit: { dir: join(dir, '..', 'shared-audit') } } });
    await expect(second()).rejects.toMatchObject({
      code: 'audit-in-use',
      message: expect.stringContaining('core.audit.dir'),
    });
    await first.close();
    // Of the same roots: otherwise the log is not theirs.
    await expect(second()).resolves.toBeDefined();
  });
});
