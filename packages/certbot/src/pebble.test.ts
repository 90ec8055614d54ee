/** Certificates by a real authority (Pebble) over a real zone (Knot), with bad nonces on purpose. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeWithPrograms, findProgram } from '@dstack-cloud/test/requires';
import acme from 'acme-client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { accountFromJson, accountToJson, newAccount } from './account.ts';
import { caaChanges, wantedCaa } from './caa.ts';
import { rfc2136 } from './dns/rfc2136.ts';
import { issueCertificate, registerAccount } from './issue-certificate.ts';

const ZONE = 'example.test';
const SECRET = Buffer.alloc(32, 5);

describeWithPrograms('a certificate by ACME', ['pebble', 'knotd', 'openssl'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'certbot-'));
  const children: ChildProcess[] = [];
  let [dnsPort, acmePort] = [0, 0];

  beforeAll(async () => {
    const [dns, api, management] = (await Promise.all([freePort(), freePort(), freePort()])) as [
      number,
      number,
      number,
    ];
    [dnsPort, acmePort] = [dns, api];
    for (const name of ['zones', 'db']) mkdirSync(join(folder, name));
    writeFileSync(
      join(folder, 'zones', `${ZONE}.zone`),
      `$ORIGIN ${ZONE}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n`,
    );
    writeFileSync(
      join(folder, 'knot.conf'),
      `server:\n  listen: 127.0.0.1@${dns}\n  rundir: "${folder}"\ndatabase:\n  storage: "${folder}/db"\nkey:\n  - id: acme-key\n    algorithm: hmac-sha256\n    secret: ${SECRET.toString('base64')}\nacl:\n  - id: updates\n    key: acme-key\n    action: update\nzone:\n  - domain: ${ZONE}\n    storage: "${folder}/zones"\n    file: ${ZONE}.zone\n    zonefile-sync: -1\n    zonefile-load: difference-no-serial\n    journal-content: all\n    acl: updates\n`,
    );
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-days',
        '2',
        '-subj',
        '/CN=127.0.0.1',
        '-addext',
        'subjectAltName=IP:127.0.0.1',
        '-keyout',
        join(folder, 'api.key'),
        '-out',
        join(folder, 'api.pem'),
      ],
      { stdio: 'ignore' },
    );
    writeFileSync(
      join(folder, 'pebble.json'),
      JSON.stringify({
        pebble: {
          listenAddress: `127.0.0.1:${api}`,
          managementListenAddress: `127.0.0.1:${management}`,
          certificate: join(folder, 'api.pem'),
          privateKey: join(folder, 'api.key'),
          httpPort: 5002,
          tlsPort: 5001,
          ocspResponderURL: '',
          externalAccountBindingRequired: false,
        },
      }),
    );
    start('knotd', ['-c', join(folder, 'knot.conf')]);
    start('pebble', ['-config', join(folder, 'pebble.json'), '-dnsserver', `127.0.0.1:${dns}`], {
      PEBBLE_VA_NOSLEEP: '1',
      PEBBLE_WFE_NONCEREJECT: '20',
    });
    // The authority of the test has a certificate of its own.
    const https = await import('node:https');
    acme.axios.defaults.httpsAgent = new https.Agent({ ca: readFileSync(join(folder, 'api.pem')) });
    await answers(async () => (await acme.axios.get(directory())).status === 200);
    await answers(async () => (await records('SOA')).length > 0);
  }, 60_000);

  afterAll(async () => {
    for (const child of children) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  });

  const directory = (): string => `https://127.0.0.1:${acmePort}/dir`;
  const provider = (secret: Buffer = SECRET) =>
    rfc2136({
      host: '127.0.0.1',
      port: dnsPort,
      zone: ZONE,
      key: { name: 'acme-key', algorithm: 'hmac-sha256', secret },
    });

  async function records(type: 'SOA' | 'TXT' | 'CAA', name = ZONE): Promise<unknown[]> {
    const resolver = new Resolver({ timeout: 1_000, tries: 1 });
    resolver.setServers([`127.0.0.1:${dnsPort}`]);
    const found = await resolver.resolve(name, type);
    return Array.isArray(found) ? found : [found];
  }

  function start(program: string, input: readonly string[], env: Record<string, string> = {}): void {
    const child = spawn(findProgram(program)!, input, { stdio: 'ignore', env: { ...process.env, ...env } });
    children.push(child);
  }

  it('for a base name and all names below it: both challenges stand beside each other, and nothing is left behind', async () => {
    const account = await registerAccount(newAccount(directory()));
    const kept = accountFromJson(accountToJson(account), directory());
    expect(kept).toEqual(account);
    const names = [`*.apps.${ZONE}`, `apps.${ZONE}`];
    const other = await provider().addTxt(`_acme-challenge.apps.${ZONE}`, 'of somebody else', 60);
    const issued = await issueCertificate({
      account: kept,
      names,
      dns: provider(),
      nameServers: [`127.0.0.1:${dnsPort}`],
    });
    expect(issued.certChain.match(/BEGIN CERTIFICATE/g)!.length).toBeGreaterThanOrEqual(2);
    expect(issued.notAfter).toBeGreaterThan(Date.now() / 1000);
    expect(await records('TXT', `_acme-challenge.apps.${ZONE}`)).toEqual([['of somebody else']]);
    const again = await issueCertificate({ account: kept, names, dns: provider(), nameServers: [] });
    expect(again.key).not.toBe(issued.key);
    await other();
    await expect(records('TXT', `_acme-challenge.apps.${ZONE}`)).rejects.toMatchObject({
      code: /ENODATA|ENOTFOUND/,
    });
  }, 60_000);

  it('is refused by the zone with another key, and the reason is said', async () => {
    const account = await registerAccount(newAccount(directory()));
    const options = { account, names: [`x.${ZONE}`], nameServers: [] };
    await expect(issueCertificate({ ...options, dns: provider(Buffer.alloc(32, 6)) })).rejects.toMatchObject({
      code: 'dns-failed',
      message: expect.stringMatching(/example\.test cannot be changed at 127\.0\.0\.1 port \d+: the/),
    });
    const nobody = rfc2136({
      host: '127.0.0.1',
      port: 1,
      zone: ZONE,
      key: { name: 'k', algorithm: 'hmac-sha256', secret: SECRET },
    });
    await expect(issueCertificate({ ...options, dns: nobody })).rejects.toThrow(/ECONNREFUSED/);
  }, 30_000);

  it('is not issued when the records are not there, and the authority says why', async () => {
    const account = await registerAccount(newAccount(directory()));
    const nothing = { addTxt: async () => async () => undefined, changeCaa: async () => undefined };
    await expect(
      issueCertificate({ account, names: [`none.${ZONE}`], dns: nothing, nameServers: [] }),
    ).rejects.toMatchObject({ code: 'acme-failed' });
  }, 60_000);

  it('pins the authority and the account by CAA records, and leaves other records alone', async () => {
    const dns = provider();
    const name = `pinned.${ZONE}`;
    const iodef = { tag: 'iodef', value: 'mailto:security@example.test' };
    await dns.changeCaa(name, [iodef, { tag: 'issue', value: 'other-ca.example' }], []);
    const wanted = wantedCaa('letsencrypt.org', 'https://ca.test/acct/1');
    const present = [iodef, { tag: 'issue', value: 'other-ca.example' }];
    const { add, remove } = caaChanges(present, wanted);
    await dns.changeCaa(name, add, remove);
    const value = 'letsencrypt.org;validationmethods=dns-01;accounturi=https://ca.test/acct/1';
    const found = (await records('CAA', name)) as Record<string, unknown>[];
    const texts = found.map(({ critical: _critical, ...record }) => JSON.stringify(record)).sort();
    expect(texts).toEqual([
      JSON.stringify({ iodef: iodef.value }),
      JSON.stringify({ issue: value }),
      JSON.stringify({ issuewild: value }),
    ]);
    expect(caaChanges([iodef, ...wanted], wanted)).toEqual({ add: [], remove: [] });
  });

  it('is not asked of another authority with the account of this one', () => {
    const text = accountToJson({ ...newAccount('https://one.test/dir'), uri: 'https://one.test/acct/1' });
    expect(() => accountFromJson(text, 'https://two.test/dir')).toThrow(/rotate the account/);
    expect(() => accountFromJson(text.slice(0, -5), 'https://one.test/dir')).toThrow(/not JSON/);
    expect(() =>
      accountFromJson(text.replace(/"key_pkcs8":"..../, '"key_pkcs8":"AAAA'), 'https://one.test/dir'),
    ).toThrow(/key of the account/);
  });
});

async function answers(ask: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 150; tries++) {
    if (await ask().catch(() => false)) return;
    await sleep(100);
  }
  throw new Error('the service did not start');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
