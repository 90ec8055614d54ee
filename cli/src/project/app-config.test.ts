import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJsonObject, stripComments } from '../config/json-comments.ts';
import { setAppJsonText } from './app-config.ts';
import { parseAppConfig } from './app-schema.ts';
import { instanceName } from './instance-name.ts';

describe('app.json', () => {
  it('has the documented defaults (chapter 50 section 2.2)', () => {
    expect(parseAppConfig({}, 'app.json').config).toMatchObject({
      name: 'myapp',
      os_image: 'dstack-cloud-0.6.0',
      platform: 'gcp',
      key_provider: 'kms',
      storage_fs: 'ext4',
      env_file: '.env',
      gateway_enabled: true,
      no_instance_id: false,
      allowed_envs: [],
    });
  });

  it('reads the flat shape, whose key provider is local by default', () => {
    const flat = { os_image: 'dstack-cloud-0.6.0', instance_name: 'vm-1', platform: 'gcp', zone: 'z' };
    const { config, warnings } = parseAppConfig(flat, 'app.json');
    expect(config).toMatchObject({
      name: 'vm-1',
      key_provider: 'local',
      gcp_config: { instance_name: 'vm-1', zone: 'z' },
    });
    expect(warnings).toHaveLength(1);
  });

  it('puts the aliases where the platform looks', () => {
    const { config } = parseAppConfig(
      { platform: 'nitro', instance_name: 'n', key_provider: 'kms' },
      'app.json',
    );
    expect(config.nitro_config).toMatchObject({ instance_name: 'n' });
  });

  it('names both places when they differ', () => {
    expect(() => parseAppConfig({ zone: 'a', gcp_config: { zone: 'b' } }, 'app.json')).toThrow(
      /zone and gcp_config\.zone differ/,
    );
  });

  it('takes app ids with 0x and in capitals', () => {
    expect(parseAppConfig({ app_id: `0x${'AB'.repeat(20)}` }, 'app.json').config.app_id).toBe(
      'ab'.repeat(20),
    );
    expect(() => parseAppConfig({ app_id: 'ab' }, 'app.json')).toThrow(/exactly 40 hexadecimal/);
  });

  it('keeps comments, order and unknown keys when one member changes', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'app-json-'));
    const path = join(directory, 'app.json');
    writeFileSync(path, '{\n  // mine\n  "future": {"x": 1},\n  "app_id": "00"\n}\n');
    await setAppJsonText(path, 'app_id', 'ff');
    expect(readFileSync(path, 'utf8')).toBe('{\n  // mine\n  "future": {"x": 1},\n  "app_id": "ff"\n}\n');
    writeFileSync(path, '{"name": "x"}');
    await setAppJsonText(path, 'app_id', 'ff');
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual({ app_id: 'ff', name: 'x' });
    rmSync(directory, { recursive: true });
  });
});

describe('JSON with comments', () => {
  it('accepts both kinds, and leaves texts alone', () => {
    const text = '{ // one\n "a": "x // y /* z */", /* two\n lines */ "b": "\\"//" }';
    expect(parseJsonObject(text, 'f', 'bad_config')).toEqual({ a: 'x // y /* z */', b: '"//' });
  });

  it('changes nothing in plain JSON', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(stripComments(text)).toBe(text);
      }),
    );
  });

  it('keeps length and lines, so that positions stay right', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const stripped = stripComments(text);
        expect(stripped.length).toBe(text.length);
        expect(stripped.split('\n').length).toBe(text.split('\n').length);
      }),
    );
  });
});

describe('instance names', () => {
  it.each([
    ['web', 'dstack-web'],
    ['KMS_prod', 'dstack-kms-prod'],
    [`${'x'.repeat(80)}`, `dstack-${'x'.repeat(56)}`],
    ['a.-', 'dstack-a'],
  ])('%s', (name, expected) => expect(instanceName(name)).toBe(expected));

  it('are always what a cloud accepts', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (name) => {
        expect(instanceName(name)).toMatch(/^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/);
      }),
    );
  });
});
