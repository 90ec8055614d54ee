/** A real certificate authority (Pebble) and a real zone that takes signed updates (Knot), on loopback. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findProgram } from './requires.ts';

/** What `startAcmeLab` runs. */
export const ACME_PROGRAMS: readonly string[] = ['pebble', 'knotd', 'openssl'];

export type AcmeLab = {
  readonly zone: string;
  readonly dnsPort: number;
  /** Of `acme-key`, HMAC-SHA256. */
  readonly secret: Buffer;
  /** Address of the authority's directory. */
  readonly directory: string;
  /** File with the CA of the authority's own certificate. */
  readonly caFile: string;
  /** Records of a name; an error when there are none. */
  records(type: 'SOA' | 'TXT' | 'CAA', name?: string): Promise<unknown[]>;
  stop(): Promise<void>;
};

/**
 * Starts both. The authority refuses a fifth of all nonces on purpose.
 * @param address where the zone is served
 */
export async function startAcmeLab(zone = 'example.test', address = '127.0.0.1'): Promise<AcmeLab> {
  const folder = mkdtempSync(join(tmpdir(), 'acme-lab-'));
  const at = (name: string): string => join(folder, name);
  const secret = Buffer.alloc(32, 5);
  const [dnsPort, api, management] = [await freePort(), await freePort(), await freePort()];
  for (const name of ['zones', 'db']) mkdirSync(at(name));
  writeFileSync(
    at(`zones/${zone}.zone`),
    `$ORIGIN ${zone}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n`,
  );
  writeFileSync(
    at('knot.conf'),
    `server:
  listen: ${address}@${dnsPort}
  rundir: "${folder}"
database:
  storage: "${at('db')}"
key:
  - id: acme-key
    algorithm: hmac-sha256
    secret: ${secret.toString('base64')}
acl:
  - id: updates
    key: acme-key
    action: update
zone:
  - domain: ${zone}
    storage: "${at('zones')}"
    file: ${zone}.zone
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    acl: updates
`,
  );
  const request = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1';
  execFileSync(
    'openssl',
    [
      'req',
      ...request.split(' '),
      '-addext',
      'subjectAltName=IP:127.0.0.1',
      '-keyout',
      at('api.key'),
      '-out',
      at('api.pem'),
    ],
    { stdio: 'ignore' },
  );
  writeFileSync(
    at('pebble.json'),
    JSON.stringify({
      pebble: {
        listenAddress: `127.0.0.1:${api}`,
        managementListenAddress: `127.0.0.1:${management}`,
        certificate: at('api.pem'),
        privateKey: at('api.key'),
        httpPort: 5002,
        tlsPort: 5001,
        ocspResponderURL: '',
        externalAccountBindingRequired: false,
      },
    }),
  );
  const children = [
    start('knotd', ['-c', at('knot.conf')]),
    start('pebble', ['-config', at('pebble.json'), '-dnsserver', `${address}:${dnsPort}`], {
      PEBBLE_VA_NOSLEEP: '1',
      PEBBLE_WFE_NONCEREJECT: '20',
    }),
  ];
  const directory = `https://127.0.0.1:${api}/dir`;
  const records: AcmeLab['records'] = async (type, name = zone) => {
    const resolver = new Resolver({ timeout: 1_000, tries: 1 });
    resolver.setServers([`${address}:${dnsPort}`]);
    const found: unknown = await resolver.resolve(name, type);
    return Array.isArray(found) ? found : [found];
  };
  const stop = async (): Promise<void> => {
    for (const child of children) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await untilTrue(async () => (await records('SOA')).length > 0);
    await untilTrue(() => answers(directory, readFileSync(at('api.pem'))));
  } catch (error) {
    await stop();
    throw error;
  }
  return { zone, dnsPort, secret, directory, caFile: at('api.pem'), records, stop };
}

function start(program: string, input: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(findProgram(program) ?? program, input, { stdio: 'ignore', env: { ...process.env, ...env } });
}

async function answers(url: string, ca: Buffer): Promise<boolean> {
  const request = get(url, { ca, agent: false, timeout: 2_000 });
  const [response] = (await once(request, 'response')) as [import('node:http').IncomingMessage];
  response.resume();
  return response.statusCode === 200;
}

async function untilTrue(ask: () => Promise<boolean>): Promise<void> {
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
