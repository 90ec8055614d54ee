import { describe, expect, test } from 'vitest';
import { settingsFrom } from './settings.ts';
import { settingsWarnings } from './settings-warnings.ts';
import { shownSettings } from './shown-settings.ts';

const kms = `0x${'ab'.repeat(20)}`;

test('defaults are those of the original', () => {
  expect(settingsFrom({ KMS_CONTRACT_ADDR: kms })).toEqual({
    host: '127.0.0.1',
    port: 8_000,
    logLevel: 'info',
    source: { type: 'chain', rpcUrls: ['http://localhost:8545'], kmsContract: kms },
  });
});

test('all variables', () => {
  const settings = settingsFrom({
    HOST: '0.0.0.0',
    PORT: '3000',
    LOG_LEVEL: 'warn',
    KMS_CONTRACT_ADDRESS: kms,
    ETH_RPC_URL: 'http://ignored',
    ETH_RPC_URLS: 'http://a/v2/KEY, http://b,',
    ETH_RPC_QUORUM: '2',
    ETH_CHAIN_ID: '8453',
    ETH_MAX_BLOCK_AGE: '60',
    ETH_FINALITY_CONFIRMATIONS: '3',
    ETH_HEAD_REUSE_MS: '250',
    ETH_READ: 'proof',
    ETH_LIGHT_CLIENT_URL: 'http://helios:8545/KEY',
    ETH_REQUIRE_TIMELOCK: '86400',
    ETH_KNOWN_CODE: `0x${'12'.repeat(32)}=dstack-kms-0.6, 0x${'34'.repeat(32)}=dstack-app-2`,
  });
  expect(settings).toEqual({
    host: '0.0.0.0',
    port: 3_000,
    logLevel: 'warn',
    source: {
      type: 'chain',
      rpcUrls: ['http://a/v2/KEY', 'http://b'],
      kmsContract: kms,
      quorum: 2,
      chainId: 8_453,
      maxBlockAgeSeconds: 60,
      finality: 3,
      headReuseMs: 250,
      reads: 'proofs',
      lightClientUrl: 'http://helios:8545/KEY',
      requireTimelockSeconds: 86_400,
      knownCode: { [`0x${'12'.repeat(32)}`]: 'dstack-kms-0.6', [`0x${'34'.repeat(32)}`]: 'dstack-app-2' },
    },
  });
  expect(JSON.stringify(shownSettings(settings))).not.toContain('KEY');
});

test.each([
  ['http://127.0.0.1:8545,http://localhost:1/KEY', undefined, []],
  ['https://rpc.example/KEY', 'https://light.example/KEY', ['ETH_LIGHT_CLIENT_URL']],
  [
    'http://127.0.0.1:1,http://node:8545/KEY',
    'http://helios:1/KEY',
    ['ETH_RPC_URLS', 'ETH_LIGHT_CLIENT_URL'],
  ],
  [
    'http://10.0.0.1/KEY',
    'http://10.0.0.2/KEY',
    ['ETH_RPC_URLS', 'ETH_LIGHT_CLIENT_URL', 'ETH_LIGHT_CLIENT_URL'],
  ],
])('of %s and %s is warned of %j', (urls, lightClient, names) => {
  const variables = { KMS_CONTRACT_ADDR: kms, ETH_RPC_URLS: urls, ETH_LIGHT_CLIENT_URL: lightClient };
  const warnings = settingsWarnings(settingsFrom(variables));
  expect(warnings.map((warning) => warning.split(':')[0])).toEqual(names);
  expect(warnings.join()).not.toContain('KEY');
});

test('an address that was given for something else is not shown', () => {
  for (const name of ['ETH_CHAIN_ID', 'ETH_READ', 'LOG_LEVEL', 'ETH_KNOWN_CODE']) {
    const wrong = () =>
      settingsFrom({ KMS_CONTRACT_ADDR: kms, [name]: 'https://user:SECRET@rpc.example/SECRET' });
    expect(wrong).toThrow(expect.objectContaining({ code: 'bad-configuration' }));
    expect(wrong).toThrow(expect.objectContaining({ message: expect.not.stringContaining('SECRET') }));
  }
});

test('an allow-list instead of a chain', () => {
  expect(settingsFrom({ AUTH_CONFIG_PATH: './auth-config.json', KMS_CONTRACT_ADDR: '' }).source).toEqual({
    type: 'allow-list',
    path: './auth-config.json',
  });
});

describe('refuses, naming the variable', () => {
  test.each<[NodeJS.ProcessEnv, RegExp]>([
    [{}, /KMS_CONTRACT_ADDR is not set/],
    [{ KMS_CONTRACT_ADDR: kms, PORT: '70000' }, /PORT is "70000"/],
    [{ KMS_CONTRACT_ADDR: kms, PORT: 'http' }, /PORT is "http"/],
    [{ KMS_CONTRACT_ADDR: kms, LOG_LEVEL: 'loud' }, /LOG_LEVEL is "loud"/],
    [{ KMS_CONTRACT_ADDR: kms, ETH_CHAIN_ID: 'base' }, /ETH_CHAIN_ID is "base"/],
    [{ KMS_CONTRACT_ADDR: kms, ETH_FINALITY: 'soon' }, /ETH_FINALITY is "soon"/],
    [{ KMS_CONTRACT_ADDR: kms, ETH_FINALITY: 'safe', ETH_FINALITY_CONFIRMATIONS: '1' }, /Both ETH_FINALITY/],
    [{ KMS_CONTRACT_ADDR: kms, ETH_READ: 'proofs' }, /ETH_READ is "proofs"/],
    [
      { KMS_CONTRACT_ADDR: kms, ETH_KNOWN_CODE: '0x12=dstack-app-2' },
      /ETH_KNOWN_CODE has "0x12=dstack-app-2"/,
    ],
    [{ KMS_CONTRACT_ADDR: kms, ETH_KNOWN_CODE: `0x${'12'.repeat(32)}=app` }, /ETH_KNOWN_CODE has/],
    [{ KMS_CONTRACT_ADDR: kms, ETH_REQUIRE_TIMELOCK: '0' }, /ETH_REQUIRE_TIMELOCK is "0"/],
    [{ AUTH_CONFIG_PATH: 'x', ETH_REQUIRE_TIMELOCK: '60' }, /an allow-list has no delay/],
    [{ KMS_CONTRACT_ADDR: kms, AUTH_CONFIG_PATH: 'x' }, /Both KMS_CONTRACT_ADDR/],
    [{ KMS_CONTRACT_ADDR: kms, KMS_CONTRACT_ADDRESS: `0x${'cd'.repeat(20)}` }, /differ/],
  ])('%j', (environment, message) => {
    expect(() => settingsFrom(environment)).toThrow(
      expect.objectContaining({ code: 'bad-configuration', message: expect.stringMatching(message) }),
    );
  });
});
