/** Certificates by a real authority (Pebble) over a real zone (Knot), with bad nonces on purpose. */
import { readFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { ACME_PROGRAMS, type AcmeLab, startAcmeLab } from '@dstack-cloud/test/acme-lab';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import acme from 'acme-client';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { accountFromJson, accountToJson, newAccount } from './account.ts';
import { caaChanges, wantedCaa } from './caa.ts';
import { rfc2136 } from './dns/rfc2136.ts';
import { issueCertificate, registerAccount } from './issue-certificate.ts';

const ZONE = 'example.test';

describeWithPrograms('a certificate by ACME', ACME_PROGRAMS, () => {
  let lab: AcmeLab;

  beforeAll(async () => {
    lab = await startAcmeLab(ZONE);
    // The authority of the test has a certificate of its own.
    acme.axios.defaults.httpsAgent = new Agent({ ca: readFileSync(lab.caFile) });
  }, 60_000);

  afterAll(() => lab?.stop());

  const directory = (): string => lab.directory;
  const records: AcmeLab['records'] = (type, name) => lab.records(type, name);
  const provider = (secret: Buffer = lab.secret) =>
    rfc2136({
      host: '127.0.0.1',
      port: lab.dnsPort,
      zone: ZONE,
      key: { name: 'acme-key', algorithm: 'hmac-sha256', secret },
    });

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
      nameServers: [`127.0.0.1:${lab.dnsPort}`],
    });
    expect(issued.certChain.match(/BEGIN CERTIFICATE/g)!.length).toBeGreaterThanOrEqual(2);
    expect(issued.notAfter).toBeGreaterThan(Date.now() / 1000);
    expect(await records('TXT', `_acme-challenge.apps.${ZONE}`)).toEqual([['of somebody else']]);
    const keys: Uint8Array[] = [];
    const onKey = async (spki: Uint8Array): Promise<void> => void keys.push(spki);
    const again = await issueCertificate({ account: kept, names, dns: provider(), nameServers: [], onKey });
    expect(keys).toEqual([again.spki]);
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
      key: { name: 'k', algorithm: 'hmac-sha256', secret: lab.secret },
    });
    await expect(issueCertificate({ ...options, dns: nobody })).rejects.toThrow(/ECONNREFUSED/);
  }, 30_000);

  it('is not issued when the records are not there, and the authority says why', async () => {
    const account = await registerAccount(newAccount(directory()));
    const nothing = {
      addTxt: async () => async () => undefined,
      changeCaa: async () => undefined,
      listCaa: async () => [],
    };
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
