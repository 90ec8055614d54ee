import { connect, type TLSSocket } from 'node:tls';
import { type ConformanceCase, expectSame, expectText, expectThat, NotApplicable } from '../case.ts';
import { type Endpoint, exchange, rawExchange } from '../endpoint.ts';
import { call, hexOf, refusal, textMember } from '../rpc.ts';

/** A gateway: the listener of guests, and that of users. */
export interface GatewayTarget {
  readonly endpoint: Endpoint;
  readonly proxy?: Endpoint | undefined;
}

const APP = '0123456789abcdef0123456789abcdef01234567';
const WAIT_MS = 5_000;

interface Proxy {
  readonly host: string;
  readonly port: number;
}

function proxyOf({ proxy }: GatewayTarget): Proxy {
  if (proxy === undefined) throw new NotApplicable('needs --proxy');
  if (proxy.kind === 'unix') throw new NotApplicable('the proxy is no TCP port');
  return { host: proxy.host, port: proxy.port };
}

async function baseDomainOf({ endpoint }: GatewayTarget): Promise<string> {
  const { base_domain } = await call(endpoint, '/prpc/Info');
  expectText('base_domain', base_domain, /^[a-z0-9.-]+$/);
  return base_domain;
}

/** Where certificates do not come by ACME there is no such method. */
async function acmeInfo(endpoint: Endpoint): Promise<Record<string, unknown>> {
  try {
    return await call(endpoint, '/prpc/AcmeInfo');
  } catch (error) {
    if (/Service not found: AcmeInfo/.test((error as Error).message))
      throw new NotApplicable('certificates do not come by ACME', { cause: error });
    throw error;
  }
}

/** How a TLS handshake for a name ends. */
function handshake(
  { host, port }: Proxy,
  servername: string | undefined,
): Promise<TLSSocket | 'closed' | 'open'> {
  return new Promise((resolve) => {
    const name = servername === undefined ? {} : { servername };
    const socket = connect({ host, port, rejectUnauthorized: false, ...name });
    const timer = setTimeout(() => {
      socket.destroy();
      resolve('open');
    }, WAIT_MS);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.on('error', () => undefined);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve('closed');
    });
  });
}

async function expectClosed(proxy: Proxy, servername: string | undefined): Promise<void> {
  const result = await handshake(proxy, servername);
  if (typeof result !== 'string') result.destroy();
  expectSame(
    `Connection for ${servername ?? 'no name'}`,
    typeof result === 'string' ? result : 'accepted',
    'closed',
  );
}

/** What a gateway does for guests and users. */
export const GATEWAY_CASES: readonly ConformanceCase<GatewayTarget>[] = [
  {
    id: 'gateway.health',
    checks: 'GET /health answers 200.',
    section: 'gateway.md 1',
    run: async ({ endpoint }) =>
      expectSame('Status', (await exchange(endpoint, { method: 'GET', path: '/health' })).status, 200),
  },
  {
    id: 'gateway.info',
    checks: 'Info says to anybody where applications are reached.',
    section: 'gateway.md 1',
    run: async (target) => {
      const info = await call(target.endpoint, '/prpc/Info');
      await baseDomainOf(target);
      const port = Number(info['external_port']);
      expectThat(Number.isInteger(port) && port > 0 && port < 65_536, `external_port is ${port}`);
      textMember(info, 'app_address_ns_prefix');
    },
  },
  {
    id: 'gateway.version',
    checks: 'Info has the version.',
    section: 'gateway.md 1',
    isExtension: true,
    run: async ({ endpoint }) =>
      expectText('version', (await call(endpoint, '/prpc/Info'))['version'], /^[0-9]/),
  },
  {
    id: 'gateway.acme-info',
    checks: 'AcmeInfo has every member, and the keys of its history are hex.',
    section: 'gateway.md 7.3',
    run: async ({ endpoint }) => {
      const info = await acmeInfo(endpoint);
      for (const name of ['account_uri', 'active_cert', 'base_domain']) textMember(info, name);
      const keys = info['hist_keys'];
      expectThat(Array.isArray(keys), 'hist_keys is no list');
      for (const key of keys) expectText('hist_keys', key, /^([0-9a-f]{2})+$/);
      const quoted = info['quoted_hist_keys'];
      expectThat(Array.isArray(quoted), 'quoted_hist_keys is no list');
      for (const one of quoted) hexOf(one as Record<string, unknown>, 'public_key');
    },
  },
  {
    id: 'gateway.register.stranger',
    checks: 'RegisterCvm without a client certificate is refused, whatever key is asked for.',
    section: 'gateway.md 6',
    run: async ({ endpoint }) => {
      for (const client_public_key of ['', 'x', Buffer.alloc(32, 7).toString('base64')])
        await refusal(endpoint, '/prpc/RegisterCvm', { client_public_key });
    },
  },
  {
    id: 'gateway.wire',
    checks: 'An unknown method is an error that names it; methods of operators are unknown to guests.',
    section: 'kms.md 1.4',
    run: async ({ endpoint }) => {
      for (const name of ['NoSuchMethod', 'Status', 'Exit', 'Admin.Exit']) {
        const { error } = await refusal(endpoint, `/prpc/${name}`);
        expectText(`Error of ${name}`, error, /^Service not found: /);
      }
      await call(endpoint, '/prpc/Info');
    },
  },
  {
    id: 'gateway.proxy.plain-http',
    checks: 'Plain HTTP is not served: at most a 400, then the connection ends.',
    section: 'gateway.md 1',
    run: async (target) => {
      const proxy = proxyOf(target);
      const raw = await rawExchange({ kind: 'http', ...proxy }, `GET / HTTP/1.1\r\nHost: ${APP}\r\n\r\n`);
      expectText('Answer', raw.text, /^(HTTP\/1\.[01] 400 |$)/);
      expectThat(raw.closed, 'The connection is still open after 2 s');
    },
  },
  {
    id: 'gateway.proxy.garbage',
    checks: 'What is no TLS ends the connection, without an answer.',
    section: 'gateway.md 1',
    run: async (target) => {
      const proxy = proxyOf(target);
      for (const bytes of [
        Uint8Array.of(0x80, 0x2e, 1, 3, 1, 0, 0),
        // A record of TLS that holds an alert.
        Uint8Array.of(0x15, 3, 1, 0, 2, 1, 0),
        // A handshake that is no ClientHello.
        Uint8Array.of(0x16, 3, 1, 0, 4, 2, 0, 0, 0),
      ]) {
        const raw = await rawExchange({ kind: 'http', ...proxy }, bytes);
        expectThat(!/HTTP\/1\.[01] 200/.test(raw.text), 'It was answered');
        expectThat(raw.closed, 'The connection is still open after 2 s');
      }
    },
  },
  {
    id: 'gateway.proxy.no-name',
    checks: 'A connection whose ClientHello names no server is closed.',
    section: 'gateway.md 1',
    run: (target) => expectClosed(proxyOf(target), undefined),
  },
  {
    id: 'gateway.proxy.bad-names',
    checks: 'Names with a port above 65535, both flags, a second level, or no id are closed.',
    section: 'gateway.md 2',
    run: async (target) => {
      const base = await baseDomainOf(target);
      for (const label of [`${APP}-70000`, `${APP}-8080sg`, `${APP}-80-80`, `a.${APP}`, `${APP}-x`])
        await expectClosed(proxyOf(target), `${label}.${base}`);
    },
  },
  {
    id: 'gateway.proxy.unknown',
    checks:
      'An application that nobody registered is closed: for a name whose TLS is its own, without a byte.',
    section: 'gateway.md 1',
    run: async (target) => {
      const base = await baseDomainOf(target);
      await expectClosed(proxyOf(target), `${APP}-443s.${base}`);
    },
  },
  {
    id: 'gateway.proxy.own-site',
    checks: "The gateway's own name answers /health and /index, below /.dstack too.",
    section: 'gateway.md 5',
    run: async (target) => {
      const name = `gateway.${await baseDomainOf(target)}`;
      for (const path of ['/health', '/.dstack/index']) {
        const status = await statusOf(proxyOf(target), name, path);
        expectSame(`Status of ${path}`, status, 200);
      }
    },
  },
  {
    id: 'gateway.proxy.case',
    checks: 'Names are compared without regard to the case of letters.',
    section: 'gateway.md 1',
    isExtension: true,
    run: async (target) => {
      const name = `GateWay.${(await baseDomainOf(target)).toUpperCase()}`;
      expectSame('Status', await statusOf(proxyOf(target), name, '/health'), 200);
    },
  },
];

async function statusOf(proxy: Proxy, servername: string, path: string): Promise<number> {
  const request = { method: 'GET', path, headers: { Host: servername } };
  return (await exchange({ kind: 'https', ...proxy }, request, false, servername)).status;
}
