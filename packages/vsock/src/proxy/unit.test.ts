import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { expect, test } from 'vitest';

const UNIT = join(dirname(fileURLToPath(import.meta.url)), '../../units/dstack-vsock-proxy.service');

describeWithPrograms('the unit of dstack-vsock-proxy', ['systemd-analyze'], () => {
  test('systemd finds nothing wrong with it', () => {
    const directory = mkdtempSync(join(tmpdir(), 'unit-'));
    try {
      const file = join(directory, 'dstack-vsock-proxy.service');
      // The program is not installed here, and a unit of a missing program is refused for that alone.
      writeFileSync(
        file,
        readFileSync(UNIT, 'utf8').replaceAll('/usr/local/bin/dstack-vsock-proxy', '/bin/true'),
      );
      const verify = (): string => {
        const args = ['verify', '--man=no', '--recursive-errors=no', file];
        const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
        return `${stdout}${stderr}${status}`;
      };
      expect(verify()).toBe('0');
      writeFileSync(file, 'ProtectSytem=strict\n', { flag: 'a' });
      expect(verify()).toContain('ProtectSytem');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
