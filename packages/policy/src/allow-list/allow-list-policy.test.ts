/** auth-simple's file, with our stricter rules. */
import { mkdtemp, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BootInfo } from '@dstack-cloud/attestation';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { BootKind } from '../policy.ts';
import { facts, filled } from '../test/facts.ts';
import { allowListPolicy } from './allow-list-policy.ts';

const hex = (byte: string, length = 32): string => byte.repeat(length);
const full = {
  gatewayAppId: 'gateway',
  kmsContractAddr: `0x${hex('aa', 20)}`,
  appImplementation: `0x${hex('bb', 20)}`,
  chainId: 31_337,
  osImages: [`0x${hex('77')}`],
  kms: { mrAggregated: [hex('55')], devices: [hex('44')] },
  apps: { [`0x${hex('11', 20)}`]: { composeHashes: [hex('22').toUpperCase()], devices: [hex('44')] } },
  allowedAdvisoryIds: ['INTEL-SA-00837'],
};
const app = full.apps[`0x${hex('11', 20)}`];

let directory: string;
let path: string;
let warnings: string[];
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'dstack-allow-list-'));
  path = join(directory, 'auth-config.json');
});
afterAll(() => rm(directory, { recursive: true, force: true }));
beforeEach(() => {
  warnings = [];
});

const write = (content: unknown): Promise<void> =>
  writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));

async function decide(
  content: unknown,
  kind: BootKind = 'app',
  changes: Partial<BootInfo> = {},
): Promise<string> {
  await write(content);
  const policy = allowListPolicy(path, { onWarning: (message) => warnings.push(message) });
  const { allowed, reason } = await policy.authorize(kind, facts(changes));
  expect(allowed).toBe(reason === '');
  return reason;
}

describe('rules, in order', () => {
  test.each<[string, unknown, Partial<BootInfo>, string]>([
    ['all is listed', full, {}, ''],
    ['TCB status', full, { tcbStatus: 'OutOfDate' }, 'TCB status is not allowed'],
    ['no TCB status (Nitro)', full, { tcbStatus: '' }, 'TCB status is not allowed'],
    [
      'Nitro, when the list says so',
      { ...full, allowedTcbStatuses: ['', 'UpToDate'] },
      { tcbStatus: '' },
      '',
    ],
    ['advisory', full, { advisoryIds: ['INTEL-SA-00837', 'INTEL-SA-1'] }, 'advisory ID is not allowed'],
    ['no advisory', { ...full, allowedAdvisoryIds: undefined }, { advisoryIds: [] }, ''],
    ['OS image', full, { osImageHash: filled(32, 1) }, 'OS image is not allowed'],
    ['app', full, { appId: filled(20, 1) }, 'app not registered'],
    ['compose hash', full, { composeHash: filled(32, 1) }, 'compose hash not allowed'],
    ['device', full, { deviceId: filled(32, 1) }, 'app is not allowed to boot on this device'],
    [
      'any device',
      { ...full, apps: { [hex('11', 20)]: { ...app, allowAnyDevice: true } } },
      { deviceId: filled(32, 1) },
      '',
    ],
    [
      'no devices is not any device',
      { ...full, apps: { [hex('11', 20)]: { ...app, devices: [] } } },
      {},
      'app is not allowed to boot on this device',
    ],
    ['an empty app', { ...full, apps: { [hex('11', 20)]: {} } }, {}, 'compose hash not allowed'],
  ])('app: %s', async (_, list, changes, reason) => {
    expect(await decide(list, 'app', changes)).toBe(reason);
  });

  test.each<[string, unknown, Partial<BootInfo>, string]>([
    ['all is listed', full, {}, ''],
    ['OS image', { ...full, osImages: [] }, {}, 'OS image is not allowed'],
    ['measurement', full, { mrAggregated: filled(32, 1) }, 'aggregated MR not allowed'],
    [
      'no measurements allow none',
      { ...full, kms: { devices: [hex('44')] } },
      {},
      'aggregated MR not allowed',
    ],
    ['device', full, { deviceId: filled(32, 1) }, 'KMS is not allowed to boot on this device'],
    [
      'no devices is not any device',
      { ...full, kms: { mrAggregated: [hex('55')] } },
      {},
      'KMS is not allowed to boot on this device',
    ],
    [
      'any device',
      { ...full, kms: { mrAggregated: [hex('55')], allowAnyDevice: true } },
      { deviceId: filled(32, 1) },
      '',
    ],
    ['a KMS needs no registered app', { ...full, apps: {} }, { appId: filled(20, 9) }, ''],
  ])('KMS: %s', async (_, list, changes, reason) => {
    expect(await decide(list, 'kms', changes)).toBe(reason);
  });

  test('the default of everything is to deny', async () => {
    expect(await decide({}, 'app', { advisoryIds: [] })).toBe('OS image is not allowed');
    expect(await decide({}, 'kms', { advisoryIds: [] })).toBe('OS image is not allowed');
  });

  test('the gateway is told on denial too', async () => {
    await write(full);
    const decision = await allowListPolicy(path).authorize('app', facts({ tcbStatus: 'Revoked' }));
    expect(decision).toEqual({
      allowed: false,
      reason: 'TCB status is not allowed',
      gatewayAppId: 'gateway',
    });
  });

  test('describes itself', async () => {
    await write(full);
    expect(await allowListPolicy(path).describe()).toEqual({
      kmsContract: full.kmsContractAddr,
      chainId: 31_337,
      appImplementation: full.appImplementation,
      gatewayAppId: 'gateway',
    });
  });
});

describe('a file that cannot be used denies everything and says why', () => {
  test.each<[string, unknown, RegExp]>([
    ['no JSON', '{', /line 1 column 2/],
    ['two lists of one name', '{"osImages":[],"osImages":[]}', /Repeated member "osImages"/],
    ['no object', '[]', /expected object/i],
    ['an unknown key', { ...full, osImage: [] }, /osImage/],
    [
      'an unknown key of an app',
      { ...full, apps: { [hex('11', 20)]: { ...app, allowAnyDevices: true } } },
      /allowAnyDevices/,
    ],
    ['a short measurement', { ...full, osImages: [hex('77', 31)] }, /32 bytes/],
    ['a measurement that is no hex', { ...full, osImages: [hex('zz')] }, /32 bytes/],
    ['a short app id', { ...full, apps: { [hex('11', 19)]: app } }, /20 bytes/],
    ['an app twice', { ...full, apps: { [hex('aa', 20)]: app, [`0x${hex('AA', 20)}`]: app } }, /twice/],
    ['a zero measurement', { ...full, osImages: [hex('00')] }, /zero/],
    [
      'the device id of no device',
      { ...full, kms: { devices: ['e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'] } },
      /nothing/,
    ],
    [
      'the measurement of debug enclaves',
      { ...full, osImages: ['81c611f35bff79491538b2f7cf201c7597a661a5c549633541c62bdc8af1613f'] },
      /debug/,
    ],
    ['"true"', { ...full, kms: { ...full.kms, allowAnyDevice: 'true' } }, /allowAnyDevice|boolean/],
    ['more than 4 MiB', JSON.stringify(full) + ' '.repeat(5_000_000), /./],
  ])('%s', async (_, content, warning) => {
    expect(await decide(content)).toBe('allow-list is missing or invalid');
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(path);
    expect(warnings[0]).toMatch(warning);
  });

  test('no file', async () => {
    const policy = allowListPolicy(join(directory, 'nowhere.json'));
    expect(await policy.authorize('app', facts())).toEqual({
      allowed: false,
      reason: 'allow-list is missing or invalid',
      gatewayAppId: '',
      failure: 'unavailable',
    });
    await expect(policy.describe()).rejects.toMatchObject({ code: 'bad-configuration' });
  });

  test('a directory', async () => {
    expect((await allowListPolicy(directory).authorize('app', facts())).allowed).toBe(false);
  });
});

describe('the present content counts', () => {
  const without = { ...full, osImages: [hex('78')] };

  test('rewritten in place, at once and of equal size', async () => {
    await write(full);
    const policy = allowListPolicy(path);
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    expect(JSON.stringify(without).length + 2).toBe(JSON.stringify(full).length);
    await write(`${JSON.stringify(without)}  `);
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
    await write(full);
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    await rm(path);
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
  });

  test('replaced by rename, with its old modification time', async () => {
    await write(full);
    const past = new Date(Date.now() - 60_000);
    await utimes(path, past, past);
    const policy = allowListPolicy(path);
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    // Long enough for the first version to be kept.
    await new Promise((done) => setTimeout(done, 2_200));
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    expect((await policy.authorize('app', facts())).allowed).toBe(true);
    const other = join(directory, 'other.json');
    await writeFile(other, `${JSON.stringify(without)}  `);
    await utimes(other, past, past);
    await rename(other, path);
    expect((await policy.authorize('app', facts())).allowed).toBe(false);
  });

  test('for all who read it, whenever they began: the processes of one service', async () => {
    await write(full);
    const first = allowListPolicy(path);
    // Long enough for what it read to be kept.
    await new Promise((done) => setTimeout(done, 2_200));
    expect((await first.authorize('app', facts())).allowed).toBe(true);
    for (const content of [without, full, without]) {
      await write(content);
      const late = allowListPolicy(path);
      const decisions = await Promise.all([first, late].map((policy) => policy.authorize('app', facts())));
      expect(decisions.map(({ allowed }) => allowed)).toEqual([content === full, content === full]);
    }
  });
});

test('the documented file allows what it lists, and nothing else', async () => {
  const page = await readFile(join(import.meta.dirname, '../../../../docs/reference/kms-config.md'), 'utf8');
  const [, sample = ''] = /^```json\n(\{\n {2}"osImages"[\s\S]*?)^```$/m.exec(page) ?? [];
  const other = filled(32, 0x99);
  expect(await decide(sample, 'kms')).toBe('');
  expect(await decide(sample, 'app', { deviceId: other })).toBe('');
  expect(await decide(sample, 'app', { composeHash: other })).toBe('compose hash not allowed');
  expect(await decide(sample, 'kms', { deviceId: other })).toBe('KMS is not allowed to boot on this device');
});
