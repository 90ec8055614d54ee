import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig, parseConfig } from './load-config.ts';

const folder = mkdtempSync(join(tmpdir(), 'gateway-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const page = readFileSync(new URL('../../../../docs/gateway.md', import.meta.url), 'utf8');
const [documented, acme] = [...page.matchAll(/```toml\n([\s\S]*?)```/g)].map(([, text]) => text!) as [
  string,
  string,
];

describe('gateway.toml', () => {
  it('is good as it is documented, and has the documented defaults', () => {
    const { core, log_level } = parseConfig(documented, 'gateway.toml');
    expect(core.proxy).toMatchObject({ base_domain: 'apps.example.com', listen_port: 443, connect_top_n: 3 });
    expect(core.proxy.timeouts).toMatchObject({
      handshake: 5,
      idle: 600,
      total: 18_000,
      handshake_stale: 1_800,
    });
    expect([core.wg.ip, core.wg.listen_port, log_level]).toEqual(['10.0.0.1/24', 51_820, 'info']);
    expect(core.recycle).toEqual({ enabled: true, interval: 300, timeout: 36_000 });
  });

  it.each([
    [
      'base_domain = "apps.example.com"',
      'base_domian = "x"',
      /core\.proxy\.base_domian: unknown key; did you mean "base_domain"\?/,
    ],
    ['listen_port = 443', 'listen_port = 0', /core\.proxy\.listen_port/],
    [
      'base_domain = "apps.example.com"',
      'base_domain = "a b"',
      /core\.proxy\.base_domain: must be a domain name/,
    ],
    ['endpoint = "203.0.113.9:51820"', 'endpoint = "203.0.113.9"', /core\.wg\.endpoint: must be host:port/],
    ['endpoint = "203.0.113.9:51820"', 'interface = "a b; rm"', /core\.wg\.interface/],
    ['port = 8010', 'port = [', /gateway\.toml: /],
    ['key = "rpc.key"', '', /tls\.key/],
  ])('with %s replaced by %s is refused', (from, to, message) => {
    expect(documented).toContain(from);
    expect(() => parseConfig(documented.replace(from, to), 'gateway.toml')).toThrow(message);
  });

  it('takes certificates from files or by ACME, and what is missing for either is named', () => {
    const withoutFiles = documented.replace(/^cert_(chain|key) = .*$/gm, '');
    const { certbot } = parseConfig(withoutFiles + acme, 'gateway.toml').core;
    expect(certbot).toMatchObject({ enabled: true, renew_before_expiration: 864_000, max_dns_wait: 300 });
    expect(() => parseConfig(withoutFiles, 'x')).toThrow(
      /cert_chain, cert_key: are needed, or core\.certbot\.enabled/,
    );
    expect(() => parseConfig(documented + acme, 'x')).toThrow(/certificates come by ACME; remove it/);
    const text = withoutFiles + acme;
    expect(() => parseConfig(text.replace(/^zone = .*$/m, ''), 'x')).toThrow(/rfc2136\.zone: is needed/);
    expect(() => parseConfig(text.replace(/^zone = .*$/m, 'zone = "other.org"'), 'x')).toThrow(
      /apps\.example\.com is not in the zone/,
    );
    expect(() => parseConfig(text.replace('https://acme', 'http://acme'), 'x')).toThrow(/acme_url/);
  });

  it('does not show a private key that is wrong', () => {
    const text = documented.replace('[core.wg]', '[core.wg]\nprivate_key = 12345');
    expect(() => parseConfig(text, 'gateway.toml')).toThrow(/private_key: is not accepted/);
  });

  it('is looked for in the standard places, its paths are relative to it, and a missing one is named', async () => {
    const file = join(folder, 'gateway.toml');
    await expect(loadConfig(undefined, [file])).rejects.toMatchObject({ code: 'config-unreadable' });
    await expect(loadConfig(join(folder, 'none.toml'))).rejects.toThrow(/none\.toml cannot be read/);
    writeFileSync(file, documented);
    const { tls, core } = await loadConfig(undefined, [file]);
    expect([tls.key, core.state_path]).toEqual([join(folder, 'rpc.key'), '/var/lib/dstack-gateway']);
  });
});
