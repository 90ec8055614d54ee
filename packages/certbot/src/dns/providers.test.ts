/** What each provider asks of its service, against whole small services that keep records and refuse what the real ones refuse. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { setCaa } from '../set-caa.ts';
import { cloudDns } from './cloud-dns.ts';
import { cloudflare } from './cloudflare.ts';
import type { DnsProvider } from './dns-provider.ts';
import { webhook } from './webhook.ts';

const TOKEN = 'a-secret-token';
const NAME = '_acme-challenge.apps.example.test';
const DOMAIN = 'apps.example.test';
const ACCOUNT = 'https://ca.test/acct/1';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

type Row = { id: string; name: string; type: string; text: string };
type Service = {
  readonly rows: Row[];
  readonly provider: (token?: string) => Promise<DnsProvider>;
  /** Refuses the next requests with this status. */
  refuse(status: number, times: number): void;
  readonly asked: () => number;
};

const services: Record<string, () => Promise<Service>> = {
  cloudflare: fakeCloudflare,
  'Cloud DNS': fakeCloudDns,
  webhook: fakeWebhook,
};

describe.each(Object.entries(services))('%s', (_name, start) => {
  const texts = (service: Service, type: string): string[] =>
    service.rows
      .filter((row) => row.type === type)
      .map(({ text }) => text)
      .sort();

  it('adds values beside others, and removes its own alone', async () => {
    const service = await start();
    const dns = await service.provider();
    const removeOne = await dns.addTxt(NAME, 'one', 60);
    const removeTwo = await dns.addTxt(NAME, 'two', 60);
    expect(texts(service, 'TXT')).toEqual(['one', 'two']);
    await removeOne();
    expect(texts(service, 'TXT')).toEqual(['two']);
    await removeTwo();
    expect(texts(service, 'TXT')).toEqual([]);
  });

  it('lets one account alone order, leaves other tags, and writes nothing when nothing changes', async () => {
    const service = await start();
    service.rows.push(
      { id: 'aa', name: DOMAIN, type: 'CAA', text: '0 issue "other.test"' },
      { id: 'bb', name: DOMAIN, type: 'CAA', text: '0 iodef "mailto:me@example.test"' },
    );
    const dns = await service.provider();
    expect(await setCaa(dns, DOMAIN, 'ca.test', ACCOUNT)).toBe(true);
    const value = `ca.test;validationmethods=dns-01;accounturi=${ACCOUNT}`;
    expect(texts(service, 'CAA')).toEqual([
      '0 iodef "mailto:me@example.test"',
      `0 issue "${value}"`,
      `0 issuewild "${value}"`,
    ]);
    const before = JSON.stringify(service.rows);
    expect(await setCaa(dns, DOMAIN, 'ca.test', ACCOUNT)).toBe(false);
    expect(JSON.stringify(service.rows)).toBe(before);
  });

  it('asks again when it is told to wait, and gives up when that does not end', async () => {
    const service = await start();
    const dns = await service.provider();
    service.refuse(429, 2);
    await dns.addTxt(NAME, 'one', 60);
    expect(texts(service, 'TXT')).toEqual(['one']);
    service.refuse(503, 1_000);
    await expect(dns.addTxt(NAME, 'two', 60)).rejects.toMatchObject({
      code: 'dns-failed',
      message: expect.stringContaining('503'),
    });
  }, 30_000);

  it('is not for another credential, and no error repeats one', async () => {
    const service = await start();
    const wrong = 'a-wrong-token';
    const error = await (await service.provider(wrong))
      .addTxt(NAME, 'one', 60)
      .catch((caught: Error) => caught);
    expect(error).toMatchObject({ code: 'dns-failed', message: expect.stringMatching(/HTTP 40[13]/) });
    expect(String((error as Error).stack)).not.toContain(wrong);
    expect(texts(service, 'TXT')).toEqual([]);
  });

  it('follows no redirect, and takes no answer of another form', async () => {
    const service = await start();
    const dns = await service.provider();
    service.refuse(302, 1);
    await expect(dns.addTxt(NAME, 'one', 60)).rejects.toMatchObject({ code: 'dns-failed' });
    service.refuse(200, 1);
    await expect(dns.listCaa(DOMAIN)).rejects.toMatchObject({ code: 'dns-failed' });
  });
});

it('Cloud DNS: what somebody else adds at the same moment is not lost', async () => {
  const service = await fakeCloudDns();
  const [one, other] = [await service.provider(), await service.provider()];
  await Promise.all([
    one.addTxt(NAME, 'one', 60),
    other.addTxt(NAME, 'other', 60),
    one.addTxt(NAME, 'third', 60),
  ]);
  expect(service.rows.map(({ text }) => text).sort()).toEqual(['one', 'other', 'third']);
});

it('a name in no zone of the credential is said so', async () => {
  for (const start of [fakeCloudflare, fakeCloudDns])
    await expect((await (await start()).provider()).addTxt('x.other.invalid', 'v', 60)).rejects.toThrow(
      /has the name x\.other\.invalid/,
    );
});

type Answer = readonly [status: number, body: unknown];

/** Serves one function; what does not carry the token is refused. */
async function serve(answer: (method: string, url: URL, body: Record<string, unknown>) => Answer) {
  const refusal = { status: 0, times: 0 };
  let asked = 0;
  const server = createServer((request, response) => {
    void read(request).then((text) => {
      asked += 1;
      const isRefused = refusal.times-- > 0;
      const [status, body] = isRefused
        ? [refusal.status, { nothing: 'of this form' }]
        : request.headers.authorization === `Bearer ${TOKEN}`
          ? answer(
              request.method ?? '',
              new URL(request.url ?? '', 'http://x'),
              text === '' ? {} : JSON.parse(text),
            )
          : [403, { error: 'no' }];
      const retry = { 'Retry-After': '0', ...(status === 302 && { Location: '/elsewhere' }) };
      response.writeHead(status, { 'Content-Type': 'application/json', ...retry }).end(JSON.stringify(body));
    });
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    asked: () => asked,
    refuse: (status: number, times: number) => void Object.assign(refusal, { status, times }),
  };
}

async function read(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

/** https://developers.cloudflare.com/api: zones by page, records by id, TXT and CAA, `success` and `result`. */
async function fakeCloudflare(): Promise<Service> {
  const rows: Row[] = [];
  let ids = 0xc0;
  const zones = [
    { id: 'e1', name: 'test' },
    { id: 'e2', name: 'example.test' },
  ];
  const ok = (result: unknown, pages = 1): Answer => [
    200,
    { success: true, errors: [], messages: [], result, result_info: { page: 1, total_pages: pages } },
  ];
  const bad = (status: number, message: string): Answer => [
    status,
    { success: false, errors: [{ code: 1, message }], result: null },
  ];
  const { url, refuse, asked } = await serve((method, { pathname, searchParams }, body) => {
    // One zone a page, so that pages count.
    if (pathname === '/zones') return ok([zones[Number(searchParams.get('page')) - 1]], zones.length);
    const [, , zone, , id] = pathname.split('/');
    if (zone !== 'e2') return bad(404, 'no such zone');
    if (method === 'GET') {
      const found = rows.filter(
        ({ name, type }) => name === searchParams.get('name') && type === searchParams.get('type'),
      );
      return ok(
        found.map(({ id: one, name, type, text }) => {
          const [, flags, tag, value] = /^(\d+) (\w+) "(.*)"$/.exec(text) ?? [];
          return { id: one, name, type, content: text, ttl: 300, data: { flags: Number(flags), tag, value } };
        }),
      );
    }
    if (method === 'DELETE') {
      const at = rows.findIndex((row) => row.id === id);
      if (at < 0) return bad(404, 'no such record');
      rows.splice(at, 1);
      return [200, { result: { id } }];
    }
    const { type, name, content, ttl, data } = body as {
      type: string;
      name: string;
      content?: string;
      ttl: number;
      data?: Record<string, string>;
    };
    if (ttl !== 1 && ttl < 60) return bad(400, 'ttl must be at least 60');
    if ((type === 'TXT') !== (typeof content === 'string')) return bad(400, 'content');
    const text = content ?? `${data?.['flags']} ${data?.['tag']} "${data?.['value']}"`;
    if (rows.some((row) => row.name === name && row.type === type && row.text === text))
      return bad(400, 'An identical record already exists.');
    const row = { id: (ids++).toString(16), name, type, text };
    rows.push(row);
    return ok({ id: row.id });
  });
  return { rows, refuse, asked, provider: async (token = TOKEN) => cloudflare({ token, apiUrl: url }) };
}

/** https://cloud.google.com/dns/docs/reference/rest/v1: a change names what is deleted exactly, and is done later. */
async function fakeCloudDns(): Promise<Service> {
  const rows: Row[] = [];
  const changes = new Map<string, number>();
  const { url, refuse, asked } = await serve((method, { pathname, searchParams }, body) => {
    const path = pathname.replace('/dns/v1/projects/project-one/managedZones', '');
    if (path === '') {
      const page = searchParams.get('pageToken');
      return page === null
        ? [
            200,
            {
              managedZones: [{ name: 'hidden', dnsName: 'apps.example.test.', visibility: 'private' }],
              nextPageToken: 'n',
            },
          ]
        : [200, { managedZones: [{ name: 'zone-one', dnsName: 'example.test.', visibility: 'public' }] }];
    }
    const [, zone, kind, id] = path.split('/');
    if (zone !== 'zone-one') return [404, { error: 'no zone' }];
    const set = (name: string | null, type: string | null) =>
      rows
        .filter((row) => `${row.name}.` === name && row.type === type)
        .map(({ text, type: of }) => (of === 'TXT' ? `"${text}"` : text));
    if (kind === 'rrsets') {
      const [name, type] = [searchParams.get('name'), searchParams.get('type')];
      const rrdatas = set(name, type);
      return [200, { rrsets: rrdatas.length === 0 ? [] : [{ name, type, ttl: 60, rrdatas }] }];
    }
    if (method === 'GET') {
      const left = (changes.get(id ?? '') ?? 0) - 1;
      changes.set(id ?? '', left);
      return [200, { id, status: left > 0 ? 'pending' : 'done' }];
    }
    type Set = { name: string; type: string; rrdatas: string[] };
    const { deletions, additions } = body as { deletions: Set[]; additions: Set[] };
    for (const { name, type, rrdatas } of deletions)
      if (JSON.stringify([...rrdatas].sort()) !== JSON.stringify(set(name, type).sort()))
        return [412, { error: 'precondition' }];
    for (const { name, type } of additions)
      if (set(name, type).length > 0 && !deletions.some((one) => one.name === name && one.type === type))
        return [409, { error: 'exists' }];
    for (const { name, type } of deletions)
      for (const row of rows.filter((one) => `${one.name}.` === name && one.type === type))
        rows.splice(rows.indexOf(row), 1);
    for (const { name, type, rrdatas } of additions)
      for (const text of rrdatas)
        rows.push({ id: '', name: name.slice(0, -1), type, text: type === 'TXT' ? JSON.parse(text) : text });
    const made = String(changes.size + 1);
    changes.set(made, 2);
    return [200, { id: made, status: 'pending' }];
  });
  const provider = (token = TOKEN): Promise<DnsProvider> =>
    cloudDns({ project: 'project-one', credentials: '', apiUrl: url, accessToken: async () => token });
  return { rows, refuse, asked, provider };
}

/** docs/protocol/gateway.md section 7.4. */
async function fakeWebhook(): Promise<Service> {
  const rows: Row[] = [];
  type Caa = { tag: string; value: string };
  const textOf = ({ tag, value }: Caa): string => `0 ${tag} "${value}"`;
  const drop = (type: string, name: unknown, text: unknown): void => {
    const at = rows.findIndex((row) => row.type === type && row.name === name && row.text === text);
    if (at >= 0) rows.splice(at, 1);
  };
  const { url, refuse, asked } = await serve((_method, _url, body) => {
    const {
      action,
      name,
      value,
      add = [],
      remove = [],
    } = body as { action: string; name: string; value: string; add?: Caa[]; remove?: Caa[] };
    if (action === 'add-txt') rows.push({ id: '', name, type: 'TXT', text: value });
    else if (action === 'remove-txt') drop('TXT', name, value);
    else if (action === 'change-caa') {
      for (const one of remove) drop('CAA', name, textOf(one));
      for (const one of add) rows.push({ id: '', name, type: 'CAA', text: textOf(one) });
    } else if (action === 'list-caa') {
      const found = rows.filter((row) => row.type === 'CAA' && row.name === name);
      return [
        200,
        { records: found.map(({ text }) => ({ tag: text.split(' ')[1], value: /"(.*)"/.exec(text)?.[1] })) },
      ];
    } else return [400, {}];
    return [200, {}];
  });
  return { rows, refuse, asked, provider: async (token = TOKEN) => webhook({ url, token }) };
}
