import { toHex, utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { checkRequirements, launchTokenHash, parseAppCompose } from './index.ts';

const TOKEN = 'unit-test-launch-token-0000000001';
const TOKEN_HASH = '28faa1319055d733ad9651f5ab7689c15b04609846bcd27b3c5bc8df6246f5a3';

const machine = { platform: 'dstack-tdx', osVersion: '0.6.1', userConfig: undefined, gpus: 0 };
const compose = (requirements: object) =>
  parseAppCompose(JSON.stringify({ manifest_version: '3', name: 'x', runner: 'bash', requirements }));
const check = (requirements: object, userConfig?: string) => () =>
  checkRequirements(compose(requirements), {
    ...machine,
    userConfig: userConfig === undefined ? undefined : utf8(userConfig),
  });
const user = (token: unknown): string => JSON.stringify({ dstack: { launch_token: token } });

describe('requirements', () => {
  it('the launch token vector', () => expect(toHex(launchTokenHash(TOKEN))).toBe(TOKEN_HASH));

  it.each([
    [{}, undefined],
    [{ platforms: ['dstack-gcp-tdx', 'dstack-tdx'] }, undefined],
    [{ os_version: '>=0.6.0' }, undefined],
    [
      { os_version: null, platforms: null, launch_token_hash: null, tdx_measure_acpi_tables: null },
      undefined,
    ],
    [{ os_version: '0.6' }, undefined],
    [{ os_version: '>=0.6, <0.7' }, undefined],
    [{ launch_token_hash: TOKEN_HASH }, user(TOKEN)],
    [{ gpu_policy: { attest_gpu: false } }, undefined],
    [{ gpu_policy: {} }, undefined],
    [{ gpu_policy: { allow_debug: true, allow_devtools: true, allow_insecure_boot: true } }, undefined],
  ])('%j is met', (requirements, userConfig) => expect(check(requirements, userConfig)).not.toThrow());

  it.each([
    [{ platforms: [] }, undefined],
    [{ platforms: ['dstack-nitro-enclave'] }, undefined],
    [{ os_version: '>=0.7' }, undefined],
    [{ os_version: '' }, undefined],
    [{ os_version: ' ' }, undefined],
    [{ os_version: 'latest' }, undefined],
    [{ os_version: '>=0.6 <0.7' }, undefined],
    [{ os_version: '0.6.2' }, undefined],
    [{ os_version: '0.7' }, undefined],
    [{ launch_token_hash: '' }, undefined],
    [{ launch_token_hash: '' }, user(TOKEN)],
    [{ launch_token_hash: TOKEN_HASH }, JSON.stringify({ launch_token: TOKEN })],
    [{ launch_token_hash: TOKEN_HASH }, `{"dstack":{"launch_token":"x","launch_token":"${TOKEN}"}}`],
    [{ launch_token_hash: TOKEN_HASH }, undefined],
    [{ launch_token_hash: TOKEN_HASH }, user('another-token-of-sufficient-length!')],
    [{ launch_token_hash: TOKEN_HASH }, user(1)],
    [{ launch_token_hash: TOKEN_HASH }, 'no json'],
    [{ launch_token_hash: '28' }, user(TOKEN)],
    [{ tdx_measure_acpi_tables: true }, undefined],
    [{ gpu_policy: { rego: 'package policy' } }, undefined],
    [{ gpu_policy: { attest_gpu: false, rego: '' } }, undefined],
  ])('%j is refused', (requirements, userConfig) => {
    expect(check(requirements, userConfig)).toThrow(expect.objectContaining({ code: 'requirement-not-met' }));
  });

  it.each([1, 8, undefined])(
    'a GPU policy holds nowhere with %j GPUs, unless it asks for nothing',
    (gpus) => {
      const check = (gpu_policy: object) => () =>
        checkRequirements(compose({ gpu_policy }), { ...machine, gpus });
      expect(check({})).toThrow(/gpu_policy\.attest_gpu/);
      expect(check({ attest_gpu: false })).not.toThrow();
    },
  );

  it.each([undefined, '', '0.6.1.2', '24.04', 'rolling', '0.6.1-dev'])(
    'the machine version %j does not meet *, which a release would',
    (version) => {
      const check = () => checkRequirements(compose({ os_version: '*' }), { ...machine, osVersion: version });
      expect(check).toThrow(/os_version/);
    },
  );
  it.each([
    ['13', '>=12'],
    ['0.7', '=0.7.0'],
    ['0.6.1-dev', '>=0.6.1-dev'],
  ])('the machine version %s meets %s', (osVersion, os_version) => {
    expect(() => checkRequirements(compose({ os_version }), { ...machine, osVersion })).not.toThrow();
  });
});
