/** The program as it is started, with a real authority and a real zone. */
import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ACME_PROGRAMS, type AcmeLab, startAcmeLab } from '@dstack-cloud/test/acme-lab';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';

const MAIN = fileURLToPath(new URL('certbot-main.ts', import.meta.url));

describeWithPrograms('dstack-certbot', ACME_PROGRAMS, () => {
  const folder = mkdtempSync(join(tmpdir(), 'certbot-main-'));
  const at = (...names: string[]): string => join(folder, ...names);
  let lab: AcmeLab;
  let common: string[] = [];
  let zone: string[] = [];

  beforeAll(async () => {
    lab = await startAcmeLab();
    writeFileSync(at('key'), lab.secret.toString('base64'), { mode: 0o600 });
    common = ['--workdir', at('work'), '--acme-url', lab.directory];
    zone = [
      '--rfc2136',
      `127.0.0.1:${lab.dnsPort}`,
      '--zone',
      lab.zone,
      '--key-name',
      'acme-key',
      '--key-file',
      at('key'),
    ];
  }, 60_000);
  afterAll(async () => {
    await lab?.stop();
    rmSync(folder, { recursive: true });
  });

  it('makes an account once, orders when it is time, and pins the account', async () => {
    const made = await run('init', ...common);
    expect(made).toMatchObject({ code: 0, out: expect.stringMatching(/^The account is https:\/\/127/) });
    expect(await run('init', ...common)).toEqual(made);
    expect(statSync(at('work/credentials.json')).mode & 0o777).toBe(0o600);

    const names = ['--domain', `*.apps.${lab.zone}`, '--domain', `apps.${lab.zone}`];
    expect((await run('renew', ...common, ...zone, ...names)).out).toContain('A new certificate is in');
    const first = new X509Certificate(readFileSync(at('work/live/cert.pem')));
    expect(first.checkHost(`any.apps.${lab.zone}`)).toBeDefined();
    expect(statSync(at('work/live/key.pem')).mode & 0o777).toBe(0o600);
    expect((await run('renew', ...common, ...zone, ...names)).out).toContain('nothing was ordered');
    // Other names are another certificate; what was before stays.
    expect((await run('renew', ...common, ...zone, ...names.slice(0, 2))).out).toContain(
      'A new certificate is in',
    );
    expect(readdirSync(at('work/backup'))).toHaveLength(2);

    const pin = ['set-caa', ...common, ...zone, ...names, '--caa-issuer', 'ca.test'];
    expect((await run(...pin)).out).toBe(`apps.${lab.zone}: the CAA records were set\n`);
    expect((await run(...pin)).out).toBe(`apps.${lab.zone}: unchanged\n`);
    expect(JSON.stringify(await lab.records('CAA', `apps.${lab.zone}`))).toContain(
      made.out.trim().split(' ').at(-1),
    );
  }, 90_000);

  it('says what is wrong before anything is asked', async () => {
    expect(await run('renew', ...common, ...zone)).toMatchObject({ code: 2 });
    expect(await run('order', ...common)).toMatchObject({ code: 2 });
    const names = ['--domain', `x.${lab.zone}`];
    expect((await run('renew', ...common, ...names)).err).toContain('One of --rfc2136');
    chmodSync(at('key'), 0o644);
    expect((await run('renew', ...common, ...zone, ...names)).err).toContain('may be read by others');
    chmodSync(at('key'), 0o600);
    expect(
      (await run('init', '--workdir', at('work'), '--acme-url', 'https://other.test/dir')).err,
    ).toContain('rotate the account');
  }, 60_000);

  async function run(...words: string[]): Promise<{ code: number | null; out: string; err: string }> {
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: lab.caFile };
    const child = spawn(process.execPath, ['--import', 'tsx', '-C', '@dstack/source', MAIN, ...words], {
      env,
    });
    const said = { out: '', err: '' };
    child.stdout.on('data', (chunk) => {
      said.out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      said.err += chunk;
    });
    await once(child, 'close');
    return { code: child.exitCode, ...said };
  }
});
