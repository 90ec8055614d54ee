/** The process is killed at every file operation of a change of root: the old root, or the new one with the old in the history. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundleChild, runChild } from '../test/child.ts';
import { commitKeyFiles, keyDirectoryState, recoverKeyDirectory } from './commit.ts';
import { commitRotation } from './commit-rotation.ts';
import { nodeFileSystem } from './file-system.ts';
import { RETIRED_FILES } from './key-files.ts';
import type { KmsKeys } from './kms-keys.ts';
import { loadKeys } from './load-keys.ts';
import { lockKeyDirectory } from './lock.ts';
import { makeRotation } from './make-rotation.ts';
import { generateRoot, generateSharedKeys, issueRpcCertificate, keyFilesOf, keysFor } from './new-keys.ts';

const NOW = 1_795_000_000;
const scratch = mkdtempSync(join(tmpdir(), 'kms-rotate-'));
const original = join(scratch, 'original');
let child: string;
let before: KmsKeys;

beforeAll(async () => {
  child = await bundleChild(new URL('../test/rotation-child.ts', import.meta.url), scratch);
  const keys = keysFor(generateSharedKeys(), 'kms.example.com', NOW);
  await commitKeyFiles(original, keyFilesOf(keys, await issueRpcCertificate(keys, NOW, undefined)));
  before = await loadKeys(original, { now: NOW });
}, 60_000);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function copy(name: string): string {
  const directory = join(scratch, name);
  cpSync(original, directory, { recursive: true });
  return directory;
}

/** All secrets of roots below a directory, in hex, with doubles. */
function secrets(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => /root-(ca|k256)\.key$/.test(path))
    .map((path) => readFileSync(join(directory, path)).toString('hex'));
}

describe('root-rotation-kill', () => {
  test('at every file operation: the old root active and whole, or the new one with the old in the history', async () => {
    const whole = copy('whole');
    const operations = Number(runChild(child, whole, 0, 'before'));
    expect(operations).toBeGreaterThan(60);
    let rotated = 0;
    for (let at = 1; at <= operations; at++) {
      // Before an operation is after the one before it.
      const directory = copy(`at-${at}`);
      expect(runChild(child, directory, at, 'after')).toBeUndefined();
      // Whoever does not know of rotations finds one whole root, or none.
      const state = await keyDirectoryState(directory);
      if (state === 'keys') {
        const k256 = readFileSync(join(directory, 'root-k256.key'));
        const isOld = k256.equals(before.roots.k256);
        const oldCa = readFileSync(join(original, 'root-ca.key'));
        expect(readFileSync(join(directory, 'root-ca.key')).equals(oldCa), `mixed at ${at}`).toBe(isOld);
      }
      const recovery = await recoverKeyDirectory(directory);
      const after = await loadKeys(directory, { now: NOW });
      const ids = [after, ...after.history].map(({ id }) => id);
      if (after.id === before.id) {
        expect(recovery).not.toBe('rotated');
        expect(after.history).toEqual([]);
      } else {
        rotated += 1;
        expect(ids[1]).toBe(before.id);
        expect(after.history[0]).toMatchObject({ roots: before.roots, successor: after.id });
        expect(after.rootCa.key.scalar).not.toEqual(before.rootCa.key.scalar);
        expect(after.bootstrapInfo?.k256Pubkey).toEqual(after.k256Pubkey);
        for (const { name, mode } of RETIRED_FILES.filter(({ name }) => name !== 'bootstrap-info.json')) {
          expect(statSync(join(directory, 'roots', before.id, name)).mode & 0o777).toBe(mode);
        }
      }
      // What belongs to the KMS and not to a root stays; nothing is there twice, nothing is left over.
      expect(after.tempCa.key.scalar).toEqual(before.tempCa.key.scalar);
      expect(after.rpcKey.scalar).toEqual(before.rpcKey.scalar);
      const kept = secrets(directory);
      expect(kept).toHaveLength(2 * ids.length);
      expect(new Set(kept).size).toBe(kept.length);
      expect(existsSync(join(directory, '.rotation'))).toBe(false);
      rmSync(directory, { recursive: true, force: true });
    }
    expect(rotated).toBeGreaterThan(10);
    expect(rotated).toBeLessThan(operations);
  }, 300_000);

  test('killed while it recovers, it recovers at the next start', async () => {
    const directory = copy('recovering');
    const { rotation, root } = await makeRotation(before, generateRoot(), NOW, undefined);
    let left = Number.POSITIVE_INFINITY;
    const failing = {
      ...nodeFileSystem,
      rename: async (...args: Parameters<typeof nodeFileSystem.rename>) => {
        if (left-- <= 0) throw new Error('stopped');
        await nodeFileSystem.rename(...args);
      },
    };
    left = 0;
    await expect(commitRotation(directory, rotation, failing)).rejects.toThrow('stopped');
    for (let tries = 0; ; tries++) {
      left = 1;
      const done = await recoverKeyDirectory(directory, failing).then(
        () => true,
        () => false,
      );
      if (done) break;
      expect(tries).toBeLessThan(20);
    }
    const after = await loadKeys(directory, { now: NOW });
    expect([after.id, ...after.history.map(({ id }) => id)]).toEqual([root.id, before.id]);
  });

  test('a full disk leaves the old root, and a later try works', async () => {
    const directory = copy('full');
    const { rotation } = await makeRotation(before, generateRoot(), NOW, undefined);
    let left = 7;
    const full = {
      ...nodeFileSystem,
      open: async (...args: Parameters<typeof nodeFileSystem.open>) => {
        if (left-- <= 0) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
        return nodeFileSystem.open(...args);
      },
    };
    await expect(commitRotation(directory, rotation, full)).rejects.toMatchObject({
      code: 'keys-unwritable',
    });
    expect((await loadKeys(directory, { now: NOW })).id).toBe(before.id);
    await commitRotation(directory, rotation);
    expect((await loadKeys(directory, { now: NOW })).history).toHaveLength(1);
    // The same root does not retire twice.
    await expect(commitRotation(directory, rotation)).rejects.toMatchObject({ code: 'keys-exist' });
  });

  test('a second process that wants the directory is refused, and may have it when the first is gone', async () => {
    const directory = copy('locked');
    const lock = await lockKeyDirectory(directory);
    await expect(lockKeyDirectory(join(directory, '..', 'locked'))).rejects.toMatchObject({
      code: 'keys-in-use',
    });
    await lock.release();
    await (await lockKeyDirectory(directory)).release();
  });
});
