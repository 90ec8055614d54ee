import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describeWithFixtures, fixtureJson, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterEach, expect, it } from 'vitest';
import { verifyCommand } from './verify-command.ts';

const MOCK = 'mock-evidence/set-a';
type Answer = (path: string, response: ServerResponse) => void;

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

async function serve(answer: Answer): Promise<string> {
  server = createServer((request: IncomingMessage, response) => answer(request.url ?? '', response));
  await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function verify(url: string): Promise<{ code: number; reason: string; check: string }> {
  let text = '';
  const root = fixturePath(`${MOCK}/roots/tdx-root-ca.pem`);
  const evidence = fixturePath(`${MOCK}/evidence/tdx-good.v0.bin`);
  const code = await verifyCommand(
    [evidence, '--at', '1781524800', '--root', `tdx=${root}`, '--collateral', url, '--json'],
    { out: (more) => (text += more), err: () => undefined },
  );
  const json = JSON.parse(text) as {
    is_valid: boolean;
    reason: string;
    checks: { id: string; ok: boolean }[];
  };
  expect(json.is_valid).toBe(code === 0);
  return { code, reason: json.reason, check: json.checks.find((check) => !check.ok)?.id ?? '' };
}

describeWithFixtures('collateral services that misbehave', 'mock-evidence/expected.json', () => {
  const base = fixtureJson<Record<string, string>>(`${MOCK}/collateral/tdx-base.json`);
  const chain = (name: string): string => encodeURIComponent(base[name]!);

  /** Answers as a PCCS does; `change` alters the JSON bodies. */
  const honest =
    (change: (body: string) => string = (body) => body): Answer =>
    (path, response) => {
      const json = (header: string, pem: string, body: string): void => {
        response.setHeader(header, chain(pem)).end(change(body));
      };
      if (path.includes('/tcb?')) {
        json(
          'TCB-Info-Issuer-Chain',
          'tcb_info_issuer_chain',
          `{"tcbInfo":${base['tcb_info']},"signature":"${base['tcb_info_signature']}"}`,
        );
      } else if (path.includes('/qe/identity')) {
        json(
          'SGX-Enclave-Identity-Issuer-Chain',
          'qe_identity_issuer_chain',
          `{"enclaveIdentity":${base['qe_identity']},"signature":"${base['qe_identity_signature']}"}`,
        );
      } else if (path.includes('/pckcrl')) {
        response
          .setHeader('SGX-PCK-CRL-Issuer-Chain', chain('pck_crl_issuer_chain'))
          .end(Buffer.from(base['pck_crl']!, 'hex'));
      } else if (path.includes('/rootcacrl')) response.end(base['root_ca_crl']);
      else response.writeHead(404).end();
    };

  it('accepts from an honest one', async () => {
    expect(await verify(await serve(honest()))).toMatchObject({ code: 0 });
  });

  it('refuses JSON with blanks changed', async () => {
    const url = await serve(honest((body) => body.replace('"version":3', '"version": 3')));
    expect(await verify(url)).toMatchObject({ code: 1, check: 'tdx.tcb-info-signature' });
  });

  it('accepts blanks around what is signed', async () => {
    const url = await serve(honest((body) => body.replace('"signature":', '\n "signature" : ')));
    expect(await verify(url)).toMatchObject({ code: 0 });
  });

  const noise = Buffer.alloc(1 << 16, 0x61);
  it.each<[string, Answer, number]>([
    ['500', (_path, response) => response.writeHead(500).end('no'), 2],
    ['404', (_path, response) => response.writeHead(404).end(), 2],
    ['a closed connection', (_path, response) => response.destroy(), 2],
    ['an empty body', (_path, response) => response.end(), 1],
    ['2 MiB of noise', (_path, response) => response.end(Buffer.alloc(2 << 20, 0x61)), 1],
    [
      'noise without end',
      (_path, response) => {
        const more = (): void => {
          while (!response.destroyed && response.write(noise));
          if (!response.destroyed) response.once('drain', more);
        };
        more();
      },
      1,
    ],
    [
      'a redirect to another host',
      (_path, response) => response.writeHead(302, { location: 'http://127.0.0.2:9/x' }).end(),
      2,
    ],
    [
      'a redirect to a file',
      (_path, response) => response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
      2,
    ],
    ['a redirect to itself', (path, response) => response.writeHead(302, { location: path }).end(), 2],
  ])('%s: refused soon', async (_name, answer, code) => {
    const started = performance.now();
    const verdict = await verify(await serve(answer));
    expect(performance.now() - started).toBeLessThan(5000);
    expect(verdict).toMatchObject({ code, check: 'tdx.collateral', reason: expect.any(String) });
  });

  it.each<[string, Answer]>([
    ['hangs', () => undefined],
    [
      'sends a byte a second',
      (_path, response) => {
        response.setHeader('content-length', '1000000');
        const timer = setInterval(() => response.write('a'), 1000);
        response.on('close', () => clearInterval(timer));
      },
    ],
  ])(
    'gives up on one that %s',
    async (_name, answer) => {
      const started = performance.now();
      expect(await verify(await serve(answer))).toMatchObject({ code: 2, check: 'tdx.collateral' });
      expect(performance.now() - started).toBeLessThan(20_000);
    },
    30_000,
  );
});
