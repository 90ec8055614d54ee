import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadGlobalConfig } from './config/global-config.ts';
import type { Context } from './context.ts';
import { lastSeenHead } from './kms/seen-heads.ts';
import { osImage } from './project/os-image.ts';
import { Sandbox } from './testing.ts';

let sandbox: Sandbox;
let context: Context;
beforeEach(() => {
  sandbox = new Sandbox();
  context = { configPath: sandbox.path('config.json'), env: {}, warn: () => undefined } as unknown as Context;
});
afterEach(() => sandbox.remove());

/** Ways in which something is there and cannot be read. */
const unreadable: readonly (readonly [string, (path: string) => void])[] = [
  ['a folder', (path) => mkdirSync(path)],
  ['a FIFO', (path) => execFileSync('mkfifo', [path])],
  ['a link to itself', (path) => symlinkSync(path, path)],
  ['damaged', (path) => writeFileSync(path, '{')],
  ['too large', (path) => writeFileSync(path, ' '.repeat(5 << 20))],
];

describe('only what is not there is absent', () => {
  const signer = { rootKey: '02'.repeat(33), publicKey: new Uint8Array(33) };

  it.each(unreadable)('heads of audit logs seen before (%s) are not forgotten', async (_name, make) => {
    expect(await lastSeenHead(context, 'https://kms', signer)).toBeUndefined();
    make(sandbox.path('audit-heads.json'));
    await expect(lastSeenHead(context, 'https://kms', signer)).rejects.toMatchObject({
      code: 'bad_config',
      message: expect.stringContaining('audit-heads.json'),
    });
  });

  it.each(unreadable)('the hash of an image (%s) is not taken from another folder', async (_name, make) => {
    for (const folder of ['first/image', 'second/image'])
      mkdirSync(sandbox.path(folder), { recursive: true });
    writeFileSync(sandbox.path('second/image/digest.txt'), '11'.repeat(32));
    const config = {
      ...(await loadGlobalConfig(context)),
      image_search_paths: ['first', 'second'].map((name) => sandbox.path(name)),
    };
    const project = {
      directory: sandbox.directory,
      config: { os_image: 'image', platform: 'local', local_config: {} },
    } as never;
    expect((await osImage(context, config, project)).hash).toBe('11'.repeat(32));
    make(join(sandbox.path('first/image'), 'digest.txt'));
    await expect(osImage(context, config, project)).rejects.toMatchObject({
      code: 'file_missing',
      message: expect.stringContaining('first/image/digest.txt'),
    });
  });

  const handed = ['.user-config', '.seal-approval.json'].flatMap((file) =>
    unreadable.slice(0, 3).map(([name, make]) => [file, name, make] as const),
  );
  it.each(handed)('a %s (%s) is not left out', async (file, _name, make) => {
    const made = await sandbox.run('new', 'app', '--platform', 'local', '--key-provider', 'none');
    expect(made.code, made.stderr).toBe(0);
    const path = sandbox.path('app', file);
    execFileSync('rm', ['-f', path]);
    const prepared = await sandbox.run('-C', 'app', 'prepare');
    expect(prepared.code, prepared.stderr).toBe(0);
    make(path);
    const refused = await sandbox.run('-C', 'app', 'prepare');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain(file);
  });
});
