import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePem, fromHex, toBase64, toBase64Url, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { afterEach, describe, expect, it } from 'vitest';
import type { CollateralSource, DcapCollateral } from '../collateral-source.ts';
import { AttestationError } from '../errors.ts';
import { vendorRoots } from '../roots/vendor-roots.ts';
import { dcapCollateralFromJson } from '../tdx/collateral-json.ts';
import type { Fetch } from './bounded-fetch.ts';
import { normaliseBaseUrl } from './fetch-collateral.ts';
import { jsonMemberText } from './json-member.ts';
import { pcsCollateral } from './pcs-collateral.ts';

interface Recorded {
  headers: Record<string, string>;
  body_hex: string;
}

const BASE = 'http://pccs.test:8081';
const REQUEST = { tee: 'tdx', fmspc: '000000000000', ca: 'platform' } as const;
const NOW = Date.parse('2026-11-23T11:00:00Z') / 1000;

const directories: string[] = [];
afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true, force: true });
});

describeWithFixtures('collateral client', 'kms-original/collateral-http.json', () => {
  const recorded = fixtureJson<Record<string, Recorded>>('kms-original/collateral-http.json');
  const expected = dcapCollateralFromJson(fixtureJson('kms-original/collateral.json'));

  /** Answers as recorded; `change` may answer instead. */
  function service(
    change: (path: string, url: string) => Response | Promise<Response> | undefined = () => undefined,
  ) {
    const calls: string[] = [];
    const fetch: Fetch = async (url) => {
      const path = url.slice(BASE.length);
      calls.push(path);
      const changed = await change(path, url);
      if (changed) return changed;
      const answer = recorded[path];
      if (!answer) return new Response('', { status: 404 });
      const { 'content-length': _length, connection: _connection, ...headers } = answer.headers;
      return new Response(new Uint8Array(fromHex(answer.body_hex)), { headers });
    };
    return { calls, fetch };
  }

  it('asks for the four parts and gives what a PCCS serves', async () => {
    const { calls, fetch } = service();
    const source = pcsCollateral({ baseUrl: `${BASE}/tdx/certification/v4/`, fetch, now: () => NOW });
    expect(await source.tdx(REQUEST)).toEqual(expected);
    expect(calls.sort()).toEqual(Object.keys(recorded).sort());
  });

  const PARTS = {
    'root CRL': ['/sgx/certification/v4/rootcacrl', expected.rootCaCrl],
    'PCK CRL': [Object.keys(recorded).find((path) => path.includes('pckcrl'))!, expected.pckCrl],
  } as const;
  const FORMS: Readonly<Record<string, (der: Uint8Array) => string | Uint8Array>> = {
    DER: (der) => der,
    hex: toHex,
    'upper-case hex in lines': (der) => toHex(der).toUpperCase().replace(/.{64}/g, '$&\r\n'),
    'hex of hex': (der) => toHex(utf8(toHex(der))),
    PEM: (der) => encodePem('X509 CRL', der),
    'PEM with text around it': (der) => `A list\n${encodePem('X509 CRL', der)}\n`,
    base64: toBase64,
    'base64 without padding': (der) => toBase64(der).replace(/=+$/, ''),
    base64url: toBase64Url,
    'base64 of PEM': (der) => toBase64(utf8(encodePem('X509 CRL', der))),
  };

  it.each(Object.keys(PARTS).flatMap((part) => Object.keys(FORMS).map((form) => [part, form] as const)))(
    'reads the %s as %s',
    async (part, form) => {
      const [path, der] = PARTS[part as keyof typeof PARTS];
      const { headers = {} } = recorded[path] ?? {};
      const { 'content-length': _length, connection: _connection, ...kept } = headers;
      const body = FORMS[form]!(der);
      const { fetch } = service((asked) =>
        asked === path
          ? new Response(typeof body === 'string' ? body : new Uint8Array(body), { headers: kept })
          : undefined,
      );
      expect(await pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW }).tdx(REQUEST)).toEqual(expected);
    },
  );

  it.each([
    ['a page of a proxy', '<html>Sign in', /Not a revocation list.*/, '"<html>Sign in"'],
    ['a certificate', encodePem('CERTIFICATE', expected.pckCrl), /found 0/, undefined],
    ['hex that lost a digit', toHex(expected.pckCrl).slice(1), /odd number/, undefined],
    ['nothing', '', /Not a revocation list/, 'nothing'],
  ])('says what came in place of the root CRL: %s', async (_name, body, message, found) => {
    const { fetch } = service((path) => (path.endsWith('rootcacrl') ? new Response(body) : undefined));
    const refusal = pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW }).tdx(REQUEST);
    await expect(refusal).rejects.toMatchObject({ code: 'collateral-invalid' });
    await expect(refusal).rejects.toThrow(message);
    if (found) await expect(refusal).rejects.toMatchObject({ found: expect.stringContaining(found) });
  });

  it('says that a PCCS has no root CRL, and does not ask Intel in its place', async () => {
    const asked: string[] = [];
    const chain = encodePem('CERTIFICATE', vendorRoots().tdx[0]!.der);
    const { fetch } = service((path, url) => {
      asked.push(url);
      if (path.endsWith('rootcacrl')) return new Response('', { status: 404 });
      if (!path.includes('qe/identity')) return undefined;
      const body = new Uint8Array(fromHex(recorded[path]!.body_hex));
      const headers = { 'SGX-Enclave-Identity-Issuer-Chain': encodeURIComponent(chain) };
      return new Response(body, { headers });
    });
    const refusal = pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW }).tdx(REQUEST);
    await expect(refusal).rejects.toThrow(`${BASE}/sgx/certification/v4/rootcacrl: HTTP 404`);
    expect(asked.every((url) => url.startsWith(BASE))).toBe(true);
  });

  it('reads issuer chains of form encoding', async () => {
    const { fetch } = service((path) => {
      const answer = recorded[path];
      if (!answer) return undefined;
      const headers = Object.entries(answer.headers).map(([name, value]): [string, string] => [
        name,
        name.toLowerCase().endsWith('issuer-chain')
          ? new URLSearchParams({ '': decodeURIComponent(value) }).toString().slice(1)
          : value,
      ]);
      const kept = headers.filter(([name]) => !['content-length', 'connection'].includes(name.toLowerCase()));
      return new Response(new Uint8Array(fromHex(answer.body_hex)), { headers: kept });
    });
    expect(await pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW }).tdx(REQUEST)).toEqual(expected);
  });

  /** As when a quote is settled: what is served here is good. */
  const get = async (source: CollateralSource): Promise<DcapCollateral> => {
    const answer = await source.tdx(REQUEST);
    await source.settled!(answer, true);
    return answer;
  };

  it('asks once for many at once, and keeps what verified until the first nextUpdate', async () => {
    const { calls, fetch } = service();
    let now = NOW;
    const source = pcsCollateral({ baseUrl: BASE, fetch, now: () => now });
    const answers = await Promise.all(Array.from({ length: 20 }, () => source.tdx(REQUEST)));
    expect(calls).toHaveLength(4);
    expect(new Set(answers).size).toBe(1);
    expect(source.atHand!(REQUEST)).toBe(false);
    await source.settled!(answers[0]!, true);
    expect(source.atHand!(REQUEST)).toBe(true);
    const end = Date.parse((JSON.parse(expected.tcbInfo) as { nextUpdate: string }).nextUpdate) / 1000;
    now = end - 1;
    expect(await source.tdx(REQUEST)).toBe(answers[0]);
    expect(calls).toHaveLength(4);
    now = end;
    await source.tdx(REQUEST);
    expect(calls).toHaveLength(8);
  });

  it('serves nothing out of date, not even when the service is down', async () => {
    let now = NOW;
    let isDown = false;
    const { fetch } = service(() => (isDown ? Promise.reject(new TypeError('refused')) : undefined));
    const source = pcsCollateral({ baseUrl: BASE, fetch, now: () => now });
    await get(source);
    isDown = true;
    await source.tdx(REQUEST);
    now += 400 * 86_400;
    await expect(source.tdx(REQUEST)).rejects.toMatchObject({ code: 'collateral-unavailable' });
  });

  it('keeps sets that verified in a directory, privately, and takes them from there after a restart', async () => {
    const cacheDir = await mkdtemp(join(tmpdir(), 'collateral-'));
    directories.push(cacheDir);
    const sourceOf = ({ fetch }: ReturnType<typeof service>) =>
      pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW, cacheDir });
    const first = sourceOf(service());
    const answer = await first.tdx(REQUEST);
    expect(await readdir(cacheDir)).toEqual([]);
    await first.settled!(answer, true);
    const [name, ...others] = await readdir(cacheDir);
    expect(others).toEqual([]);
    const path = join(cacheDir, name!);
    expect((await stat(path)).mode & 0o777).toBe(0o600);

    const second = service();
    const restarted = sourceOf(second);
    expect(await get(restarted)).toEqual(expected);
    expect(second.calls).toEqual([]);

    // Half a file is fetched anew and written over.
    await writeFile(path, (await readFile(path, 'utf8')).slice(0, 1000));
    const third = service();
    await get(sourceOf(third));
    expect(third.calls).toHaveLength(4);
    expect((await readFile(path, 'utf8')).length).toBeGreaterThan(1000);
  });

  it('drops a set that is not authentic, from memory and directory, and waits before it asks again', async () => {
    const cacheDir = await mkdtemp(join(tmpdir(), 'collateral-'));
    directories.push(cacheDir);
    const { calls, fetch } = service();
    let now = NOW;
    const source = pcsCollateral({ baseUrl: BASE, fetch, now: () => now, cacheDir });
    await source.settled!(await get(source), false);
    expect(await readdir(cacheDir)).toEqual([]);
    expect(source.atHand!(REQUEST)).toBe(false);
    await expect(source.tdx(REQUEST)).rejects.toMatchObject({ code: 'collateral-invalid' });
    expect(calls).toHaveLength(4);
    now += 16;
    await source.tdx(REQUEST);
    expect(calls).toHaveLength(8);
  });

  it('asks nobody without a permit, and for one who has a permit all the same', async () => {
    const { calls, fetch } = service();
    const source = pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW });
    const asked: unknown[] = [];
    const refuse = (...request: unknown[]): never => {
      asked.push(request);
      throw new AttestationError('collateral-unavailable', 'too many');
    };
    await expect(source.tdx(REQUEST, refuse)).rejects.toThrow('too many');
    expect(calls).toEqual([]);
    await source.settled!(await source.tdx(REQUEST, () => undefined), true);
    expect(calls).toHaveLength(4);
    // What is at hand costs nothing.
    await source.tdx(REQUEST, refuse);
    expect(asked).toEqual([['intel', 4]]);
  });

  it.each<[string, (path: string) => Response | Promise<Response> | undefined, string]>([
    [
      '500',
      (path) => (path.includes('tcb') ? new Response('', { status: 500 }) : undefined),
      'collateral-unavailable',
    ],
    ['no connection', () => Promise.reject(new TypeError('refused')), 'collateral-unavailable'],
    [
      '2 MiB of noise',
      (path) => (path.includes('tcb') ? new Response(new Uint8Array((2 << 20) + 1)) : undefined),
      'too-large',
    ],
    ['no JSON', (path) => (path.includes('tcb') ? withChain('nonsense') : undefined), 'malformed'],
    [
      'no UTF-8',
      (path) => (path.includes('tcb') ? withChain(Uint8Array.of(0xff, 0xfe)) : undefined),
      'malformed',
    ],
    [
      'no issuer chain',
      (path) => (path.includes('tcb') ? new Response('{"tcbInfo":{},"signature":""}') : undefined),
      'collateral-invalid',
    ],
    [
      'a redirect to another host',
      (path) =>
        path.includes('crl')
          ? new Response('', { status: 302, headers: { location: 'http://169.254.169.254/' } })
          : undefined,
      'collateral-unavailable',
    ],
    [
      'redirects without end',
      (path) =>
        path.includes('pckcrl')
          ? new Response('', { status: 302, headers: { location: '/pckcrl' } })
          : undefined,
      'collateral-unavailable',
    ],
  ])('refuses %s', async (_name, change, code) => {
    const { fetch } = service(change);
    const source = pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW });
    await expect(source.tdx(REQUEST)).rejects.toMatchObject({ name: 'AttestationError', code });
  });

  it('gives up on a service that hangs', async () => {
    const fetch: Fetch = (_url, { signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    const source = pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW, timeoutMs: 50 });
    await expect(source.tdx(REQUEST)).rejects.toMatchObject({
      code: 'collateral-unavailable',
      found: 'time-out',
    });
  });

  it('follows redirects within the same origin', async () => {
    const { fetch } = service((path) =>
      path === '/sgx/certification/v4/rootcacrl'
        ? new Response('', { status: 301, headers: { location: `${BASE}/moved` } })
        : path === '/moved'
          ? new Response(new Uint8Array(fromHex(recorded['/sgx/certification/v4/rootcacrl']!.body_hex)))
          : undefined,
    );
    expect(await pcsCollateral({ baseUrl: BASE, fetch, now: () => NOW }).tdx(REQUEST)).toEqual(expected);
  });

  it('refuses an FMSPC that is none', async () => {
    const { fetch } = service();
    const source = pcsCollateral({ baseUrl: BASE, fetch });
    await expect(source.tdx({ ...REQUEST, fmspc: '../../etc' })).rejects.toBeInstanceOf(AttestationError);
  });

  it('checks that a PCK certificate is of the TCB that was asked for', async () => {
    const intelRoot = vendorRoots().tdx[0]!.der;
    const chain = encodeURIComponent(expected.tcbInfoIssuerChain);
    const tcbm = `${'0A'.repeat(16)}0B00`;
    const request = {
      qeId: new Uint8Array(16),
      encryptedPpid: new Uint8Array(384),
      cpuSvn: new Uint8Array(16).fill(10),
      pceSvn: 11,
      pceId: new Uint8Array(2),
    };
    const answer = (value: string) =>
      service((path) =>
        path.includes('pckcert?')
          ? new Response(new Uint8Array(intelRoot), {
              headers: { 'SGX-TCBm': value, 'SGX-PCK-Certificate-Issuer-Chain': chain },
            })
          : undefined,
      );
    const good = answer(tcbm);
    const source = pcsCollateral({ baseUrl: BASE, fetch: good.fetch });
    const both = await Promise.all([source.pckCertificate!(request), source.pckCertificate!(request)]);
    // DER of whatever certificate; the chain is settled with the quote.
    expect(both).toEqual(
      both.map(() => `${encodePem('CERTIFICATE', intelRoot)}${expected.tcbInfoIssuerChain}`),
    );
    expect(good.calls).toHaveLength(1);
    expect(good.calls[0]).toContain('pcesvn=0B00&pceid=0000');
    const lower = pcsCollateral({ baseUrl: BASE, fetch: answer('00'.repeat(18)).fetch });
    await expect(lower.pckCertificate!(request)).rejects.toMatchObject({ code: 'collateral-invalid' });
  });
});

function withChain(body: string | Uint8Array<ArrayBuffer>): Response {
  return new Response(body, {
    headers: { 'TCB-Info-Issuer-Chain': 'x', 'SGX-Enclave-Identity-Issuer-Chain': 'x' },
  });
}

describe('exact text of a JSON member', () => {
  it.each([
    ['{"a":1,"tcbInfo":{"x":[1, 2],"y":"}"},"signature":"00"}', '{"x":[1, 2],"y":"}"}'],
    [' { "tcbInfo" : { "q" : "\\"}" } } ', '{ "q" : "\\"}" }'],
    ['{"tcbInfo":"text"}', '"text"'],
    ['{"tcbInfo":-1.5e3}', '-1.5e3'],
    ['{"nested":{"tcbInfo":1},"tcbInfo":[{}]}', '[{}]'],
  ])('%s', (json, expected) => {
    expect(jsonMemberText(json, 'tcbInfo')).toBe(expected);
  });

  it.each(['[]', '1', '"tcbInfo"', '{}', '{"tcbInfo":1,"tcbInfo":2}', '{"tcbInfo":1', '{"tcbInfo":1}x', ''])(
    'refuses %s',
    (json) => {
      expect(() => jsonMemberText(json, 'tcbInfo')).toThrow(AttestationError);
    },
  );
});

describe('base URL', () => {
  it.each([
    'https://api.trustedservices.intel.com',
    'https://api.trustedservices.intel.com/',
    'https://api.trustedservices.intel.com/sgx/certification/v4/',
    'https://api.trustedservices.intel.com/tdx/certification/v4',
  ])('%s', (url) => {
    expect(normaliseBaseUrl(url)).toBe('https://api.trustedservices.intel.com');
  });

  it.each(['', 'pccs', 'file:///etc/passwd'])('refuses "%s"', (url) => {
    expect(() => normaliseBaseUrl(url)).toThrow(AttestationError);
  });
});
