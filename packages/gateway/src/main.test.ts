/** The program's options that end by themselves. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { newKeyPair } from '@dstack-cloud/wireguard';
import { afterAll, expect, it } from 'vitest';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'gateway-main-'));
afterAll(() => rmSync(folder, { recursive: true }));

it('--import-state takes over a 0.6 state file once, and says what is left out', () => {
  const id = '1'.repeat(40);
  const one = { id, app_id: 'a'.repeat(40), ip: '10.0.0.2', public_key: newKeyPair().publicKey };
  const times = { reg_time: { secs_since_epoch: 1, nanos_since_epoch: 0 } };
  const instances = {
    [id]: { ...one, ...times },
    'test-id-0': { ...one, ...times, id: 'test-id-0\u001b[2J' },
  };
  writeFileSync(join(folder, 'old.json'), JSON.stringify({ nodes: {}, apps: {}, instances }));
  writeFileSync(
    join(folder, 'gateway.toml'),
    `tls = { key = "k", certs = "c", mutual = { ca_certs = "m" } }
    [core]
    state_path = "state"
    [core.proxy]
    base_domain = "apps.test"
    cert_chain = "a"
    cert_key = "b"`,
  );
  const first = run('--import-state', join(folder, 'old.json'));
  expect(first.stdout).toMatch(
    /^left out test-id-0.*: id: .*\n1 registrations taken over, 0 known already, 1 left out\n$/,
  );
  expect([first.status, first.stdout.includes('\u001b')]).toEqual([0, false]);
  expect(run('--import-state', join(folder, 'old.json')).stdout).toContain(
    '0 registrations taken over, 1 known',
  );
  const other = run('--import-state', join(folder, 'gateway.toml'));
  expect([other.status, other.stderr]).toEqual([1, expect.stringContaining('no state file of a gateway')]);
}, 60_000);

function run(...words: string[]) {
  const node = ['--import', 'tsx', '-C', '@dstack/source', MAIN, '--config', join(folder, 'gateway.toml')];
  return spawnSync(process.execPath, [...node, ...words], { encoding: 'utf8' });
}
