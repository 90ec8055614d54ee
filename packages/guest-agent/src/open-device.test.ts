import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseGuestConfig } from './config/guest-config.ts';
import { openConfiguredDevice } from './open-device.ts';

describe('the evidence device of a machine', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'device-'));
    mkdirSync(join(root, 'sys/class/dmi/id'), { recursive: true });
    mkdirSync(join(root, 'rtmr'));
    mkdirSync(join(root, 'com.intel.dcap'));
    for (const [name, text] of [
      ['provider', 'tdx_guest\n'],
      ['generation', '0\n'],
    ] as const)
      writeFileSync(join(root, 'com.intel.dcap', name), text);
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const named = (product: string): void =>
    writeFileSync(join(root, 'sys/class/dmi/id/product_name'), `${product}\n`);
  const open = async () => {
    const devices = { tsm: 'com.intel.dcap', rtmr: 'rtmr' };
    const text = JSON.stringify({ root: '.', devices, event_log: 'events.log' });
    return await openConfiguredDevice(parseGuestConfig(text, root), () => '');
  };

  it('is TDX alone where the machine is not of Google Cloud', async () => {
    expect((await open()).mode).toBe('dstack-tdx');
    named('Standard PC');
    expect((await open()).mode).toBe('dstack-tdx');
  });

  it('is TDX with the vTPM on Google Cloud, and nothing where the vTPM is missing', async () => {
    named('Google Compute Engine');
    await expect(open()).rejects.toMatchObject({ code: 'tee-missing' });
    mkdirSync(join(root, 'dev'));
    writeFileSync(join(root, 'dev/tpmrm0'), '');
    mkdirSync(join(root, 'sys/kernel/security/tpm0'), { recursive: true });
    // A vTPM whose firmware kept no log says nothing of the image.
    writeFileSync(join(root, 'sys/kernel/security/tpm0/binary_bios_measurements'), '');
    await expect(open()).rejects.toMatchObject({ code: expect.stringMatching(/malformed|event-log|device/) });
  });

  it('is not guessed when the product name cannot be read', async () => {
    mkdirSync(join(root, 'sys/class/dmi/id/product_name'));
    await expect(open()).rejects.toMatchObject({ code: 'device' });
  });
});
