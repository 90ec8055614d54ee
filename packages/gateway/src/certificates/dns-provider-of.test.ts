import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../config/load-config.ts';
import { dnsProviderOf } from './dns-provider-of.ts';

const SECRET = 'a-secret-that-no-error-repeats';

describe('the provider that changes the zone', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-dns-'));
  const file = join(folder, 'secret');
  afterAll(() => rmSync(folder, { recursive: true }));

  const tables = {
    cloudflare: `[core.certbot.cloudflare]\ntoken_file = "${file}"`,
    route53: `[core.certbot.route53]\naccess_key_id = "AKIAAAAAAAAAAAAAAAAA"\nsecret_key_file = "${file}"`,
    cloud_dns: `[core.certbot.cloud_dns]\nproject = "project-one"\ncredentials_file = "${file}"`,
    webhook: `[core.certbot.webhook]\nurl = "https://dns.test/change"\ntoken_file = "${file}"`,
    rfc2136: `[core.certbot.rfc2136]\nserver = "192.0.2.53:53"\nzone = "example.test"\nkey_name = "k"\nkey_file = "${file}"`,
  };
  const configOf = (...names: (keyof typeof tables)[]) =>
    parseConfig(
      `tls = { key = "k", certs = "c", mutual = { ca_certs = "m" } }
      [core.proxy]
      base_domain = "apps.example.test"
      [core.certbot]
      enabled = true
      ${names.map((name) => tables[name]).join('\n')}`,
      'gateway.toml',
    );
  const write = (text: string, mode = 0o600): void => {
    writeFileSync(file, text, { mode: 0o600 });
    chmodSync(file, mode);
  };

  it('is any of those that are documented, and one alone', async () => {
    for (const name of Object.keys(tables) as (keyof typeof tables)[]) {
      write(
        name === 'rfc2136'
          ? Buffer.alloc(32, 1).toString('base64')
          : name === 'cloud_dns'
            ? JSON.stringify({ client_email: 'a@b.test', private_key: SECRET })
            : `${SECRET}\n`,
      );
      const found = await dnsProviderOf(configOf(name));
      expect(Object.keys(found!.dns).sort(), name).toEqual(['addTxt', 'changeCaa', 'listCaa']);
      expect(found!.nameServers).toEqual(name === 'rfc2136' ? ['192.0.2.53:53'] : []);
    }
    expect(() => configOf('cloudflare', 'webhook')).toThrow(/cloudflare, webhook: one of them/);
    expect(() => configOf('route53', 'rfc2136')).toThrow(/route53, rfc2136: one of them/);
    expect(() => configOf()).toThrow(/rfc2136\.server: is needed/);
  });

  it('has its secret from a file that nobody else may read, and no error repeats it', async () => {
    write(SECRET, 0o644);
    await expect(dnsProviderOf(configOf('cloudflare'))).rejects.toThrow(/may be read by others; chmod 600/);
    for (const [name, text] of [
      ['cloudflare', `${SECRET}\nX-Injected: 1`],
      ['webhook', ''],
      ['rfc2136', SECRET],
      ['cloud_dns', `{"private_key":"${SECRET}"}`],
    ] as const) {
      write(text);
      const error = await dnsProviderOf(configOf(name)).catch((caught: Error) => caught);
      expect(error, name).toBeInstanceOf(Error);
      expect(`${(error as Error).message} ${(error as Error).stack}`).not.toContain(SECRET);
    }
    rmSync(file);
    await expect(dnsProviderOf(configOf('webhook'))).rejects.toMatchObject({ code: 'config-unreadable' });
  });

  it('is told nothing in the clear', () => {
    tables.webhook = tables.webhook.replace('https://', 'http://');
    expect(() => configOf('webhook')).toThrow(/core\.certbot\.webhook\.url: must begin with https/);
  });
});
