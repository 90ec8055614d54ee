import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseJsonObject, withJsonMember } from '../config/json-comments.ts';
import { CliError } from '../errors.ts';
import { changeAppId } from './app-config.ts';
import { parseAppConfig } from './app-schema.ts';
import { instanceName } from './instance-name.ts';

describe('app.json', () => {
  it('has the documented defaults', () => {
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

  it('keeps comments, order, unknown keys, link and mode when the app id changes', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'app-json-'));
    const real = join(directory, 'real.json');
    const path = join(directory, 'app.json');
    const text = (id: string) =>
      `{\n  // "app_id": "not this one"\n  "gcp_config": {"app_id": "nor this"},\n  "app_id": "${id}" /* mine */\n}\n`;
    writeFileSync(real, text('00'));
    chmodSync(real, 0o664);
    symlinkSync('real.json', path);
    const change = await changeAppId(path);
    expect(readFileSync(real, 'utf8')).toBe(text('00'));
    await change.write('ff');
    expect(readFileSync(real, 'utf8')).toBe(text('ff'));
    expect(lstatSync(path).isSymbolicLink()).toBe(true);
    expect(statSync(real).mode & 0o777).toBe(0o664);
    await change.undo();
    expect(readFileSync(real, 'utf8')).toBe(text('00'));
    rmSync(directory, { recursive: true });
  });

  it('is refused before a transaction when it cannot be read, edited or written', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'app-json-'));
    const path = join(directory, 'app.json');
    await expect(changeAppId(path)).rejects.toMatchObject({ code: 'bad_app_json' });
    writeFileSync(path, '{"app_id": "1", "app_id": "2"}');
    await expect(changeAppId(path)).rejects.toThrow('has the member "app_id" twice');
    writeFileSync(path, '{"app_id": "1",}');
    await expect(changeAppId(path)).rejects.toThrow('app.json:1:16 is no valid JSON: property name expected');
    writeFileSync(path, Buffer.from('{"name": "\xe9"}', 'latin1'));
    await expect(changeAppId(path)).rejects.toThrow('is no UTF-8 text');
    rmSync(directory, { recursive: true });
  });
});

describe('JSON with comments', () => {
  it('accepts both kinds, and leaves texts alone', () => {
    const text = '\ufeff{ // one\n "a": "x // y /* z */", /* two\n lines */ "b": "\\"//" }';
    expect(parseJsonObject(text, 'f', 'bad_config')).toEqual({ a: 'x // y /* z */', b: '"//' });
  });

  it('reads plain JSON as JSON.parse does, without inherited names', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor')), fc.jsonValue()),
        (value) => {
          const text = JSON.stringify(value);
          expect(JSON.stringify(parseJsonObject(text, 'f', 'bad_config'))).toBe(
            JSON.stringify(JSON.parse(text)),
          );
        },
      ),
    );
  });

  it('throws nothing but CliError', () => {
    const text = fc.string({ unit: fc.constantFrom(...'{}[]":, /*\n\\ax1\ufeff') });
    fc.assert(
      fc.property(text, (source) => {
        try {
          parseJsonObject(source, 'f', 'bad_config');
        } catch (error) {
          expect(error).toMatchObject({ code: 'bad_config' });
        }
      }),
    );
    expect(() => parseJsonObject('['.repeat(1e6), 'f', 'bad_config')).toThrow(CliError);
  });

  it('changes one member and no other byte', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom('a', 'b', 'app_id', 'nested'),
          fc.oneof(fc.string(), fc.dictionary(fc.constantFrom('app_id', 'x'), fc.string())),
        ),
        fc.constantFrom(0, 2, '\t'),
        (value, indent) => {
          const text = `// head\n${JSON.stringify(value, null, indent)} // tail\n`;
          const changed = withJsonMember(text, 'app_id', 'ff');
          expect(parseJsonObject(changed, 'f', 'bad_config')).toEqual({ ...value, app_id: 'ff' });
          expect(changed).toMatch(/^\/\/ head\n[\s\S]* \/\/ tail\n$/);
        },
      ),
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
