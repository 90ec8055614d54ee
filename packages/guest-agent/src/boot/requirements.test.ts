import { parseAppCompose } from '@dstack-cloud/app';
import { toHex, utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { checkRequirements, launchTokenHash } from './requirements.ts';
import { satisfies } from './version-range.ts';

const TOKEN = 'unit-test-launch-token-0000000001';
const TOKEN_HASH = '28faa1319055d733ad9651f5ab7689c15b04609846bcd27b3c5bc8df6246f5a3';

const check = (requirements: object, userConfig?: string, osVersion: string | undefined = '0.6.1') => {
  const compose = parseAppCompose(
    JSON.stringify({ manifest_version: '3', name: 'x', runner: 'bash', requirements }),
  );
  const facts = {
    platform: 'dstack-tdx',
    osVersion,
    userConfig: userConfig === undefined ? undefined : utf8(userConfig),
  };
  return () => checkRequirements(compose, facts);
};
const user = (token: unknown): string => JSON.stringify({ dstack: { launch_token: token } });

describe('requirements', () => {
  it('the launch token vector', () => expect(toHex(launchTokenHash(TOKEN))).toBe(TOKEN_HASH));

  it.each([
    [{}, undefined],
    [{ platforms: ['dstack-gcp-tdx', 'dstack-tdx'] }, undefined],
    [{ os_version: '>=0.6.0' }, undefined],
    [{ launch_token_hash: TOKEN_HASH }, user(TOKEN)],
    [{ gpu_policy: { attest_gpu: false } }, undefined],
  ])('%j is met', (requirements, userConfig) => expect(check(requirements, userConfig)).not.toThrow());

  it.each([
    [{ platforms: [] }, undefined],
    [{ platforms: ['dstack-nitro-enclave'] }, undefined],
    [{ os_version: '>=0.7' }, undefined],
    [{ os_version: 'x' }, undefined],
    [{ launch_token_hash: TOKEN_HASH }, undefined],
    [{ launch_token_hash: TOKEN_HASH }, user('another-token-of-sufficient-length!')],
    [{ launch_token_hash: TOKEN_HASH }, user(1)],
    [{ launch_token_hash: TOKEN_HASH }, 'no json'],
    [{ launch_token_hash: '28' }, user(TOKEN)],
    [{ tdx_measure_acpi_tables: true }, undefined],
    [{ gpu_policy: {} }, undefined],
  ])('%j is refused', (requirements, userConfig) => {
    expect(check(requirements, userConfig)).toThrow(expect.objectContaining({ code: 'requirement-not-met' }));
  });

  it('an unreadable version meets no range', () => {
    expect(check({ os_version: '*' }, undefined, '')).toThrow(/os_version/);
  });
});

describe('version ranges', () => {
  it.each([
    ['0.6.1', '^0.6', true],
    ['0.7.0', '^0.6', false],
    ['0.6.1', '0.6', true],
    ['1.9.0', '^1.2.3', true],
    ['2.0.0', '^1.2.3', false],
    ['1.2.9', '~1.2.3', true],
    ['1.3.0', '~1.2.3', false],
    ['1.5.0', '>= 1.0, < 2', true],
    ['2.0.0', '>=1.0 <2', false],
    ['12', '=12', true],
    ['0.0.3', '^0.0.3', true],
    ['0.0.4', '^0.0.3', false],
    ['1.0.0', '', false],
    ['1.0.0', '>=', false],
  ])('%s in %s: %s', (version, range, expected) => expect(satisfies(version, range)).toBe(expected));
});
