/** Root keys are made once, whole or not at all, whatever the machine does meanwhile. */
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { bootstrap, type LoneKms, startLoneKms, untilOnboarding } from '../harness/lone-kms.ts';

let directory: string;
let certDir: string;
let kms: LoneKms | undefined;

beforeAll(async () => {
  await build();
}, 60_000);
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dstack-bootstrap-'));
  certDir = join(directory, 'certs');
  mkdirSync(certDir, { mode: 0o700 });
});
afterEach(async () => {
  await kms?.stop('SIGKILL');
  kms = undefined;
  rmSync(directory, { recursive: true, force: true });
});

const rootKeys = () => ['root-ca.key', 'root-k256.key'].filter((name) => existsSync(join(certDir, name)));
const temporary = () => readdirSync(certDir).filter((name) => name.includes('tmp.') || name.endsWith('.tmp'));
const canMount = process.platform === 'linux' && process.getuid?.() === 0;

describe('bootstrap', () => {
  test('second-bootstrap: the root keys are never replaced', async () => {
    kms = await startLoneKms({ directory, certDir });
    await untilOnboarding(kms);
    expect((await bootstrap(kms)).status).toBe(200);
    const key = readFileSync(join(certDir, 'root-k256.key'));
    const second = await bootstrap(kms);
    expect(second.status).toBe(400);
    expect(JSON.parse(second.body).error).toBe('KMS has already been bootstrapped');
    expect(readFileSync(join(certDir, 'root-k256.key'))).toEqual(key);
    await kms.stop();
    kms = await startLoneKms({ directory, certDir });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(readFileSync(join(certDir, 'root-k256.key'))).toEqual(key);
  });

  test.skipIf(!canMount)(
    'disk-full-during-bootstrap: a clear error, nothing half written, and it works when there is room',
    async () => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'tmpfs', certDir]);
      try {
        kms = await startLoneKms({ directory, certDir });
        await untilOnboarding(kms);
        const ballast = join(certDir, 'ballast');
        const { bavail, bsize } = statfsSync(certDir);
        // Room for two of the files, not for all.
        writeFileSync(ballast, Buffer.alloc(Math.max(0, (bavail - 2) * bsize)));
        const refused = await bootstrap(kms);
        expect(refused.status).toBe(400);
        expect(JSON.parse(refused.body).error).toMatch(/space|ENOSPC|written/i);
        expect(rootKeys()).toEqual([]);
        expect(temporary()).toEqual([]);
        rmSync(ballast);
        const done = await bootstrap(kms);
        expect(done.status, done.body).toBe(200);
        expect(rootKeys()).toHaveLength(2);
      } finally {
        await kms?.stop('SIGKILL');
        execFileSync('umount', ['-l', certDir]);
      }
    },
    60_000,
  );

  test('port-in-use: a KMS whose port is taken says so and ends', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    try {
      kms = await startLoneKms({ directory, certDir, port });
      const code = await new Promise((resolve) => kms?.process.once('exit', resolve));
      expect(code).not.toBe(0);
      expect(kms.output()).toMatch(new RegExp(`${port}`));
      expect(kms.output()).toMatch(/in use|another program|EADDRINUSE/i);
      expect(rootKeys()).toEqual([]);
    } finally {
      other.close();
    }
  });

  test('unknown-config-key: a mistyped key is an error that names the nearest one', async () => {
    kms = await startLoneKms({ directory, certDir, extraConfig: '[core.onbord]\nenabled = true\n' });
    const code = await new Promise((resolve) => kms?.process.once('exit', resolve));
    expect(code).not.toBe(0);
    expect(kms.output()).toMatch(/onbord/);
    expect(kms.output()).toMatch(/onboard/);
  });
});
