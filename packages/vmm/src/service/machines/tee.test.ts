import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { serviceIn, stoppedMachine } from '../test/service-in.ts';
import { writeTinyImage } from '../test/tiny-image.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmm-tee-'));
  writeTinyImage(join(root, 'image'), 'tiny-sleeps', 'sleeps');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const create = async (lines: string): Promise<string> => {
  const service = serviceIn(root, `[cvm]\nplatform = "tdx"\n${lines}`);
  const wanted = { ...stoppedMachine(), noTee: false, memory: 2048 };
  try {
    return await service.create(wanted);
  } finally {
    expect(await service.list()).toEqual([]);
  }
};

it('a TD does not boot an image of flavour dev', async () => {
  await expect(create('')).rejects.toMatchObject({
    code: 'bad_image',
    message: expect.stringMatching(
      /flavour dev, .*use an image of flavour prod .*or set cvm\.allow_dev_image/,
    ),
    expected: 'flavour prod',
  });
});

it('a TD boots one where the operator says so; then it is the host that has to have TDX', async () => {
  await expect(create('allow_dev_image = true')).rejects.toThrow(/starts no TD|no qemu|vsock/i);
});
