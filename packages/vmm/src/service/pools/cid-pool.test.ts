import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { freeCid, runningCids } from './cid-pool.ts';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

describe('context ids', () => {
  it('are given once each, in order, never that of the start, and none beyond the pool', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5000 }), fc.integer({ min: 2, max: 40 }), (start, size) => {
        const taken = new Set<number>();
        for (let given = 1; given < size; given += 1) {
          const cid = freeCid({ start, size }, taken, new Set());
          expect(cid).toBe(start + given);
          taken.add(cid);
        }
        expect(() => freeCid({ start, size }, taken, new Set())).toThrow(
          expect.objectContaining({ code: 'no_resources' }),
        );
      }),
    );
  });

  it('of removed machines are given again', () => {
    expect(freeCid({ start: 1000, size: 10 }, new Set([1001, 1003]), new Set())).toBe(1002);
  });

  it('of machines that somebody else runs on this host are passed over', async () => {
    const line = ['-e', 'setTimeout(() => {}, 60_000)', '--', 'vhost-vsock-pci,guest-cid=70001'];
    const child = spawn(process.execPath, line, { stdio: 'ignore' });
    children.push(child);
    await once(child, 'spawn');
    await expect.poll(() => runningCids().has(70_001)).toBe(true);
    expect(freeCid({ start: 70_000, size: 10 }, new Set())).toBe(70_002);
  });
});
