/** What tpm2-tools, the reference client, says about the same TPM. */
import { execFileSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { type SoftwareTpm, startSwtpm } from '@dstack-cloud/test/swtpm';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSealedSeed } from './sealed-seed.ts';
import { SEED_NV_INDEX } from './sealed-slots.ts';
import { withTpm } from './tpm.ts';
import { createPrimary } from './tpm-keys.ts';
import { nvRead } from './tpm-nv.ts';
import { extendPcr, readPcrs } from './tpm-pcr.ts';
import { tpmQuote } from './tpm-quote.ts';

const ECC_AK = fromHex('0023000b00050072000000100018000b0003001000000000');
/** Whether the library is there through which the tools talk to a software TPM. */
function reachesSwtpm(): boolean {
  const libraries = readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu'));
  return libraries.some((name) => existsSync(`/usr/lib/${name}/libtss2-tcti-swtpm.so.0`));
}

const PROGRAMS = ['swtpm', 'swtpm_setup', 'tpm2_checkquote', 'tpm2_pcrread', 'tpm2_pcrextend', 'tpm2_nvread'];

describeWithPrograms('tpm2-tools', PROGRAMS, () => {
  let software: SoftwareTpm;
  let directory: string;
  beforeEach(async () => {
    software = await startSwtpm();
    directory = mkdtempSync(join(tmpdir(), 'tools-'));
  });
  beforeEach((context) => {
    if (!reachesSwtpm()) context.skip('tpm2-tools cannot reach swtpm: libtss2-tcti-swtpm0 is not installed');
  });
  afterEach(async () => {
    await software.stop();
    rmSync(directory, { recursive: true });
  });
  const tool = (name: string, ...args: string[]): Buffer =>
    execFileSync(name, args, {
      env: { ...process.env, TPM2TOOLS_TCTI: software.tcti },
      timeout: 10_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const file = (name: string, content: Uint8Array | string): string => {
    writeFileSync(join(directory, name), content);
    return join(directory, name);
  };

  test('accept our quote, and no other', async () => {
    const qualifyingData = new Uint8Array(32).fill(5);
    const { publicArea, quote } = await withTpm(software.location, async (tpm) => {
      const key = await createPrimary(tpm, 'endorsement', ECC_AK);
      const made = await tpmQuote(tpm, key.handle, qualifyingData, 'sha256', [0, 2, 14]);
      return { publicArea: key.publicArea, quote: made };
    });
    const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
    const [x, y] = [base64(publicArea.subarray(-66, -34)), base64(publicArea.subarray(-32))];
    const key = createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' });
    const pem = file('ak.pem', key.export({ type: 'spki', format: 'pem' }));
    const check = (message: Uint8Array, qualification: Uint8Array) =>
      tool(
        'tpm2_checkquote',
        ...['-u', pem, '-m', file('message', message), '-s', file('signature', quote.signature)],
        ...['-q', toHex(qualification), '-g', 'sha256'],
      );
    check(quote.message, qualifyingData);
    expect(() => check(quote.message, new Uint8Array(32))).toThrow();
    const flipped = quote.message.map((byte, i) => (i === 60 ? byte ^ 1 : byte));
    expect(() => check(flipped, qualifyingData)).toThrow();
  });

  test('read what we extend, and we read what they extend', async () => {
    const digest = new Uint8Array(32).fill(1);
    await withTpm(software.location, (tpm) => extendPcr(tpm, 14, { sha256: digest }));
    tool('tpm2_pcrextend', `16:sha256=${toHex(digest)}`);
    const [ours, theirs] = await withTpm(software.location, (tpm) => readPcrs(tpm, 'sha256', [14, 16]));
    expect(ours!.value).toEqual(theirs!.value);
    const read = tool('tpm2_pcrread', 'sha256:14').toString();
    expect(read.toLowerCase()).toContain(toHex(ours!.value));
  });

  test('read the index that we wrote', async () => {
    const stored = await withTpm(software.location, async (tpm) => {
      await openSealedSeed(tpm);
      return await nvRead(tpm, SEED_NV_INDEX);
    });
    const read = tool('tpm2_nvread', `0x${SEED_NV_INDEX.toString(16)}`, '-C', 'o');
    expect(new Uint8Array(read)).toEqual(stored);
  });
});
