import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import { createNitro, nsmEndpoint } from '@dstack-cloud/tee-simulator';
import { describeWithFixtures, fixtureJson, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { thisMachine } from '../machine.ts';
import { measurementLines, measurementsOf } from './show-mrs.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'mrs-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const nowhere = thisMachine({});

test('of the enclave that this is: what its documents will say', async () => {
  const socketPath = join(directory, 'nsm.sock');
  const nitro = createNitro(new Uint8Array(32).fill(1), { image: 'x' });
  const endpoint = await nsmEndpoint(nitro, { socketPath });
  const machine = thisMachine({ DSTACK_NSM: `unix:${socketPath}` });
  const shown = await measurementsOf({}, machine);
  expect(shown.PCR0).toBe(toHex(nitro.pcrs[0]!.value));
  expect(measurementLines(shown)).toMatch(
    /^PCR0: [0-9a-f]{96}\nPCR1: [0-9a-f]{96}\nPCR2: [0-9a-f]{96}\nOS_IMAGE_HASH: 0x[0-9a-f]{64}\n$/,
  );
  await endpoint.close();
});

test('a debug enclave has the hash of zeros', async () => {
  const file = join(directory, 'debug.json');
  const zero = '0'.repeat(96);
  writeFileSync(file, JSON.stringify({ Measurements: { PCR0: zero, PCR1: zero, PCR2: zero } }));
  expect((await measurementsOf({ measurements: file }, nowhere)).OS_IMAGE_HASH).toBe(`0x${'0'.repeat(64)}`);
});

test('what is neither enclave nor file is refused', async () => {
  await expect(measurementsOf({}, nowhere)).rejects.toThrow(/This is not a Nitro enclave/);
  await expect(measurementsOf({ eif: join(directory, 'none') }, nowhere)).rejects.toThrow(
    /failed to read EIF/,
  );
  await expect(measurementsOf({ eif: 'a', measurements: 'b' }, nowhere)).rejects.toThrow(/exclude/);
  writeFileSync(join(directory, 'bad.json'), '{"Measurements":{"PCR0":"00"}}');
  await expect(measurementsOf({ measurements: join(directory, 'bad.json') }, nowhere)).rejects.toThrow(
    /failed to read measurements/,
  );
});

describeWithFixtures('an EIF', 'eif/expected.json', () => {
  test('has the registers that nitro-cli computed', async () => {
    const expected = fixtureJson<Record<string, unknown>>('eif/expected.json');
    expect(expected).toBeTypeOf('object');
    const name = JSON.stringify(expected).match(/"([\w.-]+\.eif)"/)?.[1] ?? '';
    const { PCR0 } = await measurementsOf({ eif: fixturePath(`eif/${name}`) }, nowhere);
    expect(JSON.stringify(expected).toLowerCase()).toContain(PCR0);
  });
});
