import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { p256KeyPem } from '@dstack-cloud/keys';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import { createLog } from '../telemetry/log.ts';
import { writeRotatedDirectory } from '../test/rotated-directory.ts';
import { backupCommand } from './backup-command.ts';
import type { Command } from './command.ts';
import { rootsCommand } from './roots-command.ts';

const NOW = 1_795_000_000;
const YEAR = 365 * 86_400;
// Its CA certificates are in force for ten years, and are made anew when they have less than one left.
const LATER = NOW + 9.5 * YEAR;

let directory: string;
let certDir: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'read-only-'));
  certDir = join(directory, 'certs');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Every file with its content, time and inode: a file that was replaced by an equal one has another. */
function present(): Record<string, string> {
  const names = readdirSync(certDir, { recursive: true, encoding: 'utf8' }).sort();
  return Object.fromEntries(
    names.map((name) => {
      const { ino, mtimeNs } = statSync(join(certDir, name), { bigint: true });
      const isFile = statSync(join(certDir, name)).isFile();
      return [name, `${ino} ${mtimeNs} ${isFile ? readFileSync(join(certDir, name), 'hex') : ''}`];
    }),
  );
}

async function run(command: Command, ...args: string[]): Promise<Record<string, unknown>> {
  let printed: Record<string, unknown> = {};
  await command.run(args, {
    load: () => checkConfig({ core: { cert_dir: certDir } }, {}),
    now: () => LATER,
    log: createLog('silent'),
    print: (result) => {
      printed = result;
    },
  });
  return printed;
}

const recipient = (name: string, digit: string) => ['--recipient', `${name}=x25519:${digit.repeat(64)}`];
const backup = (out: string) =>
  run(
    backupCommand,
    ...['--threshold', '2', ...recipient('alice', '1'), ...recipient('bob', '2')],
    ...['--out', join(directory, out)],
  );

test('roots and backup change no file of a key directory, whatever is missing or near its end', async () => {
  const keys = await writeRotatedDirectory(certDir, 1, NOW);
  const before = present();
  const said = await run(rootsCommand);
  expect(said).toMatchObject({ root: keys.id, retired: [{ root: keys.history[0]!.id }] });
  expect(await backup('shares')).toMatchObject({ retired_roots: [keys.history[0]!.id] });
  expect(present()).toEqual(before);
  for (const name of ['root-ca.crt', 'tmp-ca.crt', 'rpc.key', 'rpc.crt', 'rpc-domain']) {
    rmSync(join(certDir, name));
  }
  const less = present();
  expect(await run(rootsCommand)).toEqual(said);
  expect(await backup('shares-of-less')).toMatchObject({ k256_pubkey: said['k256_pubkey'] });
  expect(present()).toEqual(less);
});

test('a backup holds the temp CA that there is, and makes none', async () => {
  const keys = await writeRotatedDirectory(certDir, 0, NOW);
  expect(p256KeyPem(keys.tempCa.key)).toBe(readFileSync(join(certDir, 'tmp-ca.key'), 'utf8'));
  rmSync(join(certDir, 'tmp-ca.key'));
  const before = present();
  await expect(backup('shares')).rejects.toMatchObject({
    code: 'keys-missing',
    message: expect.stringContaining('tmp-ca.key is missing'),
  });
  expect((await run(rootsCommand))['root']).toBe(keys.id);
  expect(present()).toEqual(before);
});
