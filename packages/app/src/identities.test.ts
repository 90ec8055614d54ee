import { createHash } from 'node:crypto';
import { fromHex, toBase64, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { canonicalJson } from './compose-hash.ts';
import {
  asAppId,
  asComposeHash,
  checkMrConfigId,
  composeHash,
  defaultAppId,
  getComposeHash,
  instanceId,
  keyProviderInfo,
  mrConfigIdV1,
  mrConfigIdV2,
  writeAppCompose,
} from './index.ts';

describe('vectors', () => {
  it('11.1 instance id', () => {
    const seed = fromHex('000102030405060708090a0b0c0d0e0f10111213');
    const app = asAppId('00112233445566778899aabbccddeeff00112233');
    expect(toHex(instanceId(seed, app))).toBe('2041b0fc6d0205404376b2e20ee06f5f9c9f6380');
  });

  it('11.3 app-compose bytes', () => {
    const bytes = writeAppCompose({
      name: 'demo',
      dockerComposeFile:
        'services:\r\n  web:\r\n    image: nginx:alpine\r\n    ports:\r\n      - "8080:80"\r\n',
      gatewayEnabled: true,
      publicLogs: true,
      publicSysinfo: true,
      publicTcbinfo: true,
      keyProviderId: '',
      allowedEnvs: ['API_KEY', 'DATABASE_URL', 'API_KEY'],
      noInstanceId: false,
      secureTime: false,
      keyProvider: 'kms',
      storageFs: 'ext4',
      preLaunchScript: '#!/bin/sh\n# Prelaunch script - runs before starting containers\necho café 😀\n',
    });
    expect(bytes).toHaveLength(588);
    expect(toHex(composeHash(bytes))).toBe(
      '1d6adcfaba63cc64c5413c934b4ad6cdad2873c1fb19095e12092b0b93a816a9',
    );
    expect(toHex(defaultAppId(composeHash(bytes)))).toBe('1d6adcfaba63cc64c5413c934b4ad6cdad2873c1');
  });

  it('11.5 mr_config_id', () => {
    const hash = asComposeHash('44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a');
    expect(toHex(composeHash(utf8('{}')))).toBe(toHex(hash));
    expect(toBase64(mrConfigIdV1(hash))).toBe(
      'AUQTb6NVs2eKEUatFvfoZJ6U+0/CH+d+gxDAYPYcqv+KAAAAAAAAAAAAAAAAAAAA',
    );
    const id = fromHex(`02${'11'.repeat(32)}`);
    const claims = {
      composeHash: hash,
      appId: defaultAppId(hash),
      keyProvider: 'kms',
      keyProviderId: id,
    } as const;
    expect(toHex(mrConfigIdV2(claims))).toBe(
      `02bf2c7bb9d4e4d636a4d535741b59267bc03d8de778c69b281854b4ec27780b16${'00'.repeat(15)}`,
    );
  });
});

describe('checkMrConfigId', () => {
  const claims = {
    composeHash: asComposeHash('c143116fef3940e7f776bfc0919c256232ae5338a6e948c96b711e0b2383483a'),
    appId: asAppId('5bb4ff9a3837357f19dc176407a5709c62eb6c56'),
    keyProvider: 'none',
    keyProviderId: new Uint8Array(0),
  } as const;
  it.each([
    ['all zero', new Uint8Array(48)],
    ['form 1', mrConfigIdV1(claims.composeHash)],
    ['form 2', mrConfigIdV2(claims)],
  ])('takes %s', (_, value) => expect(() => checkMrConfigId(value, claims)).not.toThrow());

  const flipped = mrConfigIdV2(claims);
  flipped[47] = 1;
  const form3 = mrConfigIdV1(claims.composeHash);
  form3[0] = 3;
  it.each([
    ['another application', mrConfigIdV1(asComposeHash('00'.repeat(32)))],
    ['another provider', mrConfigIdV2({ ...claims, keyProvider: 'kms' })],
    ['padding that is not zero', flipped],
    ['an unknown form', form3],
    ['zeros of another length', new Uint8Array(32)],
  ])('refuses %s', (_, value) => {
    expect(() => checkMrConfigId(value, claims)).toThrow(
      expect.objectContaining({ code: 'mr-config-id-mismatch' }),
    );
  });
});

describe('canonicalJson', () => {
  it('writes NaN and infinities as null, drops undefined, keeps __proto__', () => {
    const value = {
      b: Number.NaN,
      a: [Number.POSITIVE_INFINITY],
      u: undefined,
      ...JSON.parse('{"__proto__":1}'),
    };
    expect(canonicalJson(value)).toBe('{"__proto__":1,"a":[null],"b":null}');
  });
});

describeWithFixtures('simulator fixtures', 'simulator/expected.json', () => {
  interface Expected {
    compose_hash: {
      name: string;
      normalize: boolean;
      compose: Record<string, unknown>;
      canonical_json: string;
      sha256: string;
    }[];
    mr_config_id_examples: { v1: string; v2_kms: string };
    info: { app_id: string; compose_hash: string; key_provider_info: string };
    file_sha256: Record<string, string>;
  }
  const expected = fixtureJson<Expected>('simulator/expected.json');
  it.each(expected.compose_hash)('compose_hash: $name', (one) => {
    expect(getComposeHash(one.compose, { normalize: one.normalize })).toBe(one.sha256);
    expect(createHash('sha256').update(one.canonical_json).digest('hex')).toBe(one.sha256);
    if (!one.normalize) expect(canonicalJson(one.compose)).toBe(one.canonical_json);
  });
  it('MRCONFIGID of both forms, and the key-provider payload', () => {
    const keyProviderId = fromHex((JSON.parse(expected.info.key_provider_info) as { id: string }).id);
    const claims = {
      composeHash: asComposeHash(expected.info.compose_hash),
      appId: asAppId(expected.info.app_id),
      keyProvider: 'kms',
      keyProviderId,
    } as const;
    expect(toHex(mrConfigIdV1(claims.composeHash))).toBe(expected.mr_config_id_examples.v1);
    expect(toHex(mrConfigIdV2(claims))).toBe(expected.mr_config_id_examples.v2_kms);
    expect(keyProviderInfo('kms', keyProviderId)).toEqual(utf8(expected.info.key_provider_info));
  });
  it('the hash of the exact file bytes', () => {
    expect(toHex(composeHash(fixture('simulator/app-compose.json')))).toBe(
      expected.file_sha256['app-compose.json'],
    );
  });
});
