import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../config/load-config.ts';
import { checkFiles } from './check-files.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmm-files-'));
  writeFileSync(join(folder, 'users'), `alice:$2y$05$${'a'.repeat(53)}\n`);
  writeFileSync(join(folder, 'login'), '{"auths":{"registry.example":{"auth":"YTpi"}}}');
  writeFileSync(join(folder, 'other'), 'alice:secret\n');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A configuration whose lines name files of the folder as `@NAME`. */
async function check(lines: string): Promise<void> {
  const text = lines.replaceAll(/@(\w+)/g, (_, name: string) => JSON.stringify(join(folder, name)));
  await checkFiles(parseConfig(text, 'vmm.toml'));
}

const image = '[image]\nregistry = "registry.example/images"\nregistry_auth_file = ';
const network = 'address = "0.0.0.0"\n[auth]\nenabled = true\nhtpasswd_file = @users\n[tls]\n';

describe('the files of a configuration', () => {
  it.each([
    ['none', ''],
    ['a password of the registry', `${image}@login`],
    ['users', '[auth]\nenabled = true\nhtpasswd_file = @users'],
  ])('are taken: %s', async (_name, lines) => {
    await expect(check(lines)).resolves.toBeUndefined();
  });

  it.each([
    ['no users', '[auth]\nenabled = true\nhtpasswd_file = @none', /htpasswd_file: .*none cannot be read/],
    ['users without bcrypt', '[auth]\nenabled = true\nhtpasswd_file = @other', /must hold bcrypt entries/],
    ['no password of it', `${image}@other`, /image\.registry_auth_file: .*other is not JSON$/],
    [
      'no key',
      `${network}key = @none\ncerts = @other`,
      /^tls\.key: the file .* does not exist\. Name one in PEM/,
    ],
    [
      'a key that is none',
      `${network}key = @other\ncerts = @other`,
      /^tls\.key \(.*\) and tls\.certs \(.*\) are no private key and its certificate/,
    ],
  ])('are refused: %s', async (_name, lines, message) => {
    await expect(check(lines)).rejects.toMatchObject({
      code: 'bad_config',
      message: expect.stringMatching(message),
    });
  });
});
