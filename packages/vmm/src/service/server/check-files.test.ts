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
  writeFileSync(join(folder, 'other'), 'alice:secret\n');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A configuration whose lines name files of the folder as `@NAME`. */
function check(lines: string): void {
  const text = lines.replaceAll(/@(\w+)/g, (_, name: string) => JSON.stringify(join(folder, name)));
  checkFiles(parseConfig(text, 'vmm.toml'));
}

const network = 'address = "0.0.0.0"\n[auth]\nenabled = true\nhtpasswd_file = @users\n[tls]\n';

describe('the files of a configuration', () => {
  it.each([
    ['none', ''],
    ['users', '[auth]\nenabled = true\nhtpasswd_file = @users'],
  ])('are taken: %s', (_name, lines) => {
    expect(() => check(lines)).not.toThrow();
  });

  it.each([
    ['no users', '[auth]\nenabled = true\nhtpasswd_file = @none', /htpasswd_file: .*none cannot be read/],
    ['users without bcrypt', '[auth]\nenabled = true\nhtpasswd_file = @other', /must hold bcrypt entries/],
    ['no key', `${network}key = @none\ncerts = @other`, /tls: ENOENT/],
    ['a key that is none', `${network}key = @other\ncerts = @other`, /^tls: /],
  ])('are refused: %s', (_name, lines, message) => {
    expect(() => check(lines)).toThrow(
      expect.objectContaining({ code: 'bad_config', message: expect.stringMatching(message) }),
    );
  });
});
