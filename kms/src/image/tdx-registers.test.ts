import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AttestationError, type TdxRegisterRequest } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../telemetry/log.ts';
import { tdxRegisterSource } from './tdx-registers.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kms-registers-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const request: TdxRegisterRequest = {
  osImageHash: new Uint8Array(32).fill(1),
  memory: 2 ** 31,
  key: 'one machine shape',
  compute: () => {
    throw new Error('not reached');
  },
};
const register = (byte: number): Uint8Array => new Uint8Array(48).fill(byte);
const none = {
  directoryOf: () => Promise.reject(new AttestationError('collateral-unavailable', 'no image here')),
};

function writeCache(text: string): void {
  const name = createHash('sha256').update(request.key).digest('hex');
  mkdirSync(join(directory, 'measurements'));
  writeFileSync(join(directory, 'measurements', `${name}.json`), text);
}

test('a measurement of the cache needs no image', async () => {
  const measurements = Object.fromEntries(
    ['mrtd', 'rtmr0', 'rtmr1', 'rtmr2'].map((name, index) => [name, toHex(register(index))]),
  );
  writeCache(JSON.stringify({ version: 1, measurements }));
  const found = await tdxRegisterSource(none, directory, createLog('silent'))(request);
  expect(found).toEqual({ mrtd: register(0), rtmr0: register(1), rtmr1: register(2), rtmr2: register(3) });
});

test.each([
  '',
  '{',
  '{"version":1}',
  '{"version":2,"measurements":{}}',
  '{"version":1,"measurements":{"mrtd":"00"}}',
])('a damaged one (%j) is not believed', async (text) => {
  writeCache(text);
  await expect(tdxRegisterSource(none, directory, createLog('silent'))(request)).rejects.toThrow(
    'no image here',
  );
});

test('an image without the files that it names is refused', async () => {
  const image = join(directory, 'image');
  mkdirSync(image);
  const metadata = { cmdline: 'x', kernel: 'bzImage', initrd: 'initramfs', bios: 'ovmf.fd' };
  writeFileSync(join(image, 'metadata.json'), JSON.stringify(metadata));
  const images = { directoryOf: () => Promise.resolve(image) };
  await expect(tdxRegisterSource(images, directory, createLog('silent'))(request)).rejects.toMatchObject({
    code: 'image',
  });
});
