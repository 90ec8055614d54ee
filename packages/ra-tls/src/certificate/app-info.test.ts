import { encodeMsgpack, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RaTlsError } from '../errors.ts';
import { decodeAppInfo, encodeAppInfo } from './app-info.ts';

// Example of docs/protocol/ra-tls.md section 1.3.
const VECTOR =
  '98c4141111111111111111111111111111111111111111c4203333333333333333333333333333333333333333333333333333333333333333c4142222222222222222222222222222222222222222c4204444444444444444444444444444444444444444444444444444444444444444c4205555555555555555555555555555555555555555555555555555555555555555c4206666666666666666666666666666666666666666666666666666666666666666c4207777777777777777777777777777777777777777777777777777777777777777c4187b226e616d65223a226b6d73222c226964223a223030227d';

describe('app info', () => {
  const info = decodeAppInfo(fromHex(VECTOR));

  it('is an array of eight byte strings', () => {
    expect(toHex(info.composeHash)).toBe('33'.repeat(32));
    expect(new TextDecoder().decode(info.keyProviderInfo)).toBe('{"name":"kms","id":"00"}');
    expect(toHex(encodeAppInfo(info))).toBe(VECTOR);
  });

  it('has a ninth element with init scripts; more elements are ignored', () => {
    const elements = (...more: unknown[]): Uint8Array =>
      encodeMsgpack([
        info.appId,
        info.composeHash,
        info.instanceId,
        info.deviceId,
        info.mrSystem,
        info.mrAggregated,
        info.osImageHash,
        info.keyProviderInfo,
        ...more,
      ]);
    const withScripts = { ...info, initScriptHashes: [Uint8Array.of(1), Uint8Array.of(2)] };
    expect(decodeAppInfo(encodeAppInfo(withScripts))).toEqual(withScripts);
    expect(toHex(elements([]))).toBe(`99${VECTOR.slice(2)}90`);
    for (const same of [elements([]), elements(null), elements([], 'x', 1)])
      expect(decodeAppInfo(same)).toEqual(info);
    for (const bad of [elements(1), elements(['x'])]) expect(() => decodeAppInfo(bad)).toThrow(RaTlsError);
  });

  it('is read as the map of newer releases, and written as an array', () => {
    const map = {
      app_id: info.appId,
      compose_hash: info.composeHash,
      instance_id: info.instanceId,
      device_id: info.deviceId,
      mr_system: info.mrSystem,
      mr_aggregated: info.mrAggregated,
      os_image_hash: info.osImageHash,
      key_provider_info: info.keyProviderInfo,
    };
    const scripts = [Uint8Array.of(1), Uint8Array.of(2)];
    for (const none of [map, { ...map, init_script_hashes: null }, { init_script_hashes: [], ...map }]) {
      expect(decodeAppInfo(encodeMsgpack(none))).toEqual(info);
    }
    const read = decodeAppInfo(encodeMsgpack({ ...map, init_script_hashes: scripts, newer: 'x' }));
    expect(read).toEqual({ ...info, initScriptHashes: scripts });
    expect(toHex(encodeAppInfo(read))).toBe(`99${VECTOR.slice(2)}92c40101c40102`);
    for (const name of Object.keys(map)) {
      const { [name as keyof typeof map]: _, ...rest } = map;
      for (const bad of [rest, { ...map, [name]: null }, { ...map, [name]: 'text' }]) {
        expect(() => decodeAppInfo(encodeMsgpack(bad)), name).toThrow(RaTlsError);
      }
    }
    // A key twice: readers would differ on which one counts.
    const twice = encodeMsgpack(map);
    const member = encodeMsgpack({ app_id: new Uint8Array(20) }).subarray(1);
    expect(() => decodeAppInfo(Uint8Array.of(0x89, ...twice.subarray(1), ...member))).toThrow(RaTlsError);
  });

  it('refuses every other form', () => {
    for (const hex of [
      '',
      'c1',
      '80',
      '90',
      '97',
      VECTOR.slice(0, -2),
      `${VECTOR}00`,
      VECTOR.replace('98c414', '98d914'),
    ]) {
      expect(() => decodeAppInfo(fromHex(hex)), hex.slice(0, 20)).toThrow(RaTlsError);
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        expect(() => decodeAppInfo(bytes)).toThrow(RaTlsError);
      }),
    );
  });
});

describeWithFixtures('app info of the simulator', 'simulator/expected.json', () => {
  it('round trips', () => {
    const { app_info_msgpack } = fixtureJson<{ app_info_msgpack: string }>('simulator/expected.json');
    expect(toHex(encodeAppInfo(decodeAppInfo(fromHex(app_info_msgpack))))).toBe(app_info_msgpack);
  });
});
