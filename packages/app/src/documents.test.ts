import { fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureText } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import {
  AppError,
  parseAppKeys,
  parseInstanceInfo,
  parseSysConfig,
  parseVmConfig,
  serializeAppKeys,
  serializeInstanceInfo,
  serializeSysConfig,
} from './index.ts';

describeWithFixtures('simulator documents', 'simulator/appkeys.json', () => {
  it('reads appkeys.json and writes it back equal', () => {
    const keys = parseAppKeys(fixtureText('simulator/appkeys.json'));
    expect(keys.keyProvider.kind).toBe('none');
    expect(toHex(keys.k256Key)).toBe('d6e88992cdeeee35fe70b5db61ab66cdb191fb9b6ec9313757ef162dd7214d5d');
    expect(JSON.parse(serializeAppKeys(keys))).toEqual(JSON.parse(fixtureText('simulator/appkeys.json')));
  });
  it('reads sys-config.json and its vm_config', () => {
    const config = parseSysConfig(fixtureText('simulator/sys-config.json'));
    expect(config).toMatchObject({ pccsUrl: undefined, hostApiUrl: 'vsock://2:12000/api' });
    expect(parseSysConfig(serializeSysConfig(config))).toEqual(config);
    expect(parseVmConfig(config.vmConfig)).toMatchObject({ cpuCount: 1, memorySize: 2147483648n });
  });
});

describe('AppKeys', () => {
  const provider = {
    Kms: { url: 'https://k/prpc', pubkey: '3059', tmp_ca_key: 'KEY', tmp_ca_cert: 'CERT' },
  };
  const keys = (change: object = {}) =>
    JSON.stringify({
      disk_crypt_key: '11'.repeat(32),
      k256_key: '22'.repeat(32),
      k256_signature: '33'.repeat(65),
      gateway_app_id: '',
      ca_cert: 'PEM',
      key_provider: provider,
      ...change,
    });
  it('takes a missing env_crypt_key as none', () => {
    expect(parseAppKeys(keys()).envCryptKey).toHaveLength(0);
  });
  it.each([
    ['Local', { Local: { key: 'K', mr: 'aa' } }],
    ['Tpm', { Tpm: { key: 'K', pubkey: 'bb' } }],
    ['None', { None: { key: 'K' } }],
    ['Kms', provider],
  ])('round trip of provider %s', (_, key_provider) => {
    const text = serializeAppKeys(parseAppKeys(keys({ key_provider })));
    expect((JSON.parse(text) as { key_provider: object }).key_provider).toEqual(key_provider);
  });
  it.each([
    ['a short disk key', { disk_crypt_key: '11' }],
    ['an 0x prefix', { k256_key: `0x${'22'.repeat(31)}` }],
    ['two providers', { key_provider: { ...provider, None: { key: 'K' } } }],
    ['no provider', { key_provider: {} }],
    ['a short signature', { k256_signature: '33'.repeat(64) }],
  ])('refuses %s and tells no key', (_, change) => {
    let message = '';
    try {
      parseAppKeys(keys(change));
    } catch (error) {
      expect(error).toBeInstanceOf(AppError);
      message = (error as Error).message;
    }
    expect(message).not.toBe('');
    expect(message).not.toMatch(/1111|2222|3333|KEY/);
  });
});

describe('.instance_info', () => {
  it('takes missing and empty members', () => {
    const none = { instanceIdSeed: undefined, instanceId: undefined, appId: undefined };
    expect(parseInstanceInfo('{}')).toEqual(none);
    expect(parseInstanceInfo('{"app_id":"","instance_id_seed":"","instance_id":""}')).toEqual(none);
    expect(parseInstanceInfo(serializeInstanceInfo(none))).toEqual(none);
  });
  it('reads 20 bytes', () => {
    const info = parseInstanceInfo(`{"app_id":"${'AB'.repeat(20)}"}`);
    expect(info.appId).toEqual(fromHex('ab'.repeat(20)));
  });
  it.each(['"zz"', '"ab"', '1', `"0x${'ab'.repeat(20)}"`])('refuses app_id %s', (value) => {
    expect(() => parseInstanceInfo(`{"app_id":${value}}`)).toThrow(/app_id/);
  });
});

describe('.sys-config.json and vm_config', () => {
  it('takes the older gateway member and needs vm_config', () => {
    expect(parseSysConfig('{"tproxy_urls":["u"],"vm_config":"{}"}').gatewayUrls).toEqual(['u']);
    expect(() => parseSysConfig('{}')).toThrow(/vm_config/);
  });
  it('tolerates 0x before the image hash and refuses other lengths', () => {
    expect(parseVmConfig(`{"os_image_hash":"0x${'AB'.repeat(32)}","zzz":1}`).osImageHash).toEqual(
      fromHex('ab'.repeat(32)),
    );
    expect(parseVmConfig('{}').osImageHash).toBeUndefined();
    expect(() => parseVmConfig('{"os_image_hash":"ab"}')).toThrow(/os_image_hash/);
    expect(() => parseVmConfig('[]')).toThrow(AppError);
    expect(() => parseVmConfig('{"memory_size":-1}')).toThrow(/memory_size/);
  });
});

describe('collateral services of .sys-config.json', () => {
  const read = (members: object) => parseSysConfig(JSON.stringify({ vm_config: '{}', ...members }));
  it.each([
    [{}, undefined, undefined],
    [{ pccs_url: 'https://a' }, 'https://a', undefined],
    [{ pccs_url: null, collateral_urls: null }, undefined, undefined],
    [{ collateral_urls: {} }, undefined, undefined],
    [{ collateral_urls: { pccs: 'https://a' } }, 'https://a', undefined],
    [{ collateral_urls: { amd_kds: 'https://b' } }, undefined, 'https://b'],
    [{ pccs_url: 'https://a', collateral_urls: { amd_kds: 'https://b' } }, 'https://a', 'https://b'],
    [{ pccs_url: 'https://a', collateral_urls: { pccs: 'https://a', amd_kds: '' } }, 'https://a', undefined],
  ])('%j', (members, pccsUrl, amdKdsUrl) => {
    const config = read(members);
    expect([config.pccsUrl, config.amdKdsUrl]).toEqual([pccsUrl, amdKdsUrl]);
    expect(parseSysConfig(serializeSysConfig(config))).toEqual(config);
  });
  it.each([
    { pccs_url: 'https://a/SECRET', collateral_urls: { pccs: 'https://b/SECRET' } },
    { collateral_urls: [] },
    { collateral_urls: { pccs: 1 } },
    { collateral_urls: 'https://a/SECRET' },
  ])('%j is refused', (members) => {
    expect(() => read(members)).toThrow(expect.objectContaining({ code: 'sys-config-invalid' }));
    expect(() => read(members)).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('SECRET') }),
    );
  });
  it('are written by the names of older and newer guests', () => {
    const config = { ...read({}), pccsUrl: 'https://a', amdKdsUrl: 'https://b' };
    expect(JSON.parse(new TextDecoder().decode(serializeSysConfig(config)))).toMatchObject({
      pccs_url: 'https://a',
      collateral_urls: { pccs: 'https://a', amd_kds: 'https://b' },
    });
    expect(new TextDecoder().decode(serializeSysConfig(read({})))).not.toContain('collateral_urls');
  });
});
