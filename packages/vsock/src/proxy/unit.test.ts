import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { expect, test } from 'vitest';

const UNITS = join(dirname(fileURLToPath(import.meta.url)), '../../units');

describeWithPrograms('the units of an enclave host', ['systemd-analyze'], () => {
  test.each(['dstack-vsock-proxy', 'dstack-enclave'])('systemd finds nothing wrong with %s', (name) => {
    const directory = mkdtempSync(join(tmpdir(), 'unit-'));
    try {
      const file = join(directory, `${name}.service`);
      const text = readFileSync(join(UNITS, `${name}.service`), 'utf8');
      // The program is not installed here, and a unit of a missing program is refused for that alone.
      writeFileSync(file, text.replaceAll('/usr/local/bin/dstack-vsock-proxy', '/bin/true'));
      // AWS's own.
      const allocator = join(directory, 'nitro-enclaves-allocator.service');
      writeFileSync(allocator, '[Service]\nType=oneshot\nExecStart=/bin/true\n');
      const verify = (): string => {
        const args = ['verify', '--man=no', '--recursive-errors=no', file];
        const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
        return `${stdout}${stderr}${status}`;
      };
      expect(verify()).toBe('0');
      writeFileSync(file, text.replace('[Install]', 'ProtectSytem=strict\n[Install]'));
      expect(verify()).toContain('ProtectSytem');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test.each(['run-enclave.sh', 'run-release.sh'])('a shell reads %s', (name) => {
    expect(spawnSync('sh', ['-n', join(UNITS, name)], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    });
  });
});
