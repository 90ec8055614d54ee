/** An etcd of three members on one address, with TLS on both sides. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';

export type EtcdLab = {
  readonly options: { readonly endpoints: readonly string[]; readonly tls: Pem };
  /** PEM files of what `options` holds. */
  readonly files: Pem;
  /** Which member leads. */
  leader(): Promise<number>;
  /** Stops members without a word, as a cut cable does, or lets them go on. */
  freeze(members: readonly number[]): void;
  thaw(): void;
  kill(member: number): Promise<void>;
  close(): Promise<void>;
};

type Pem = { readonly ca: string; readonly cert: string; readonly key: string };

/**
 * @param folder absolute
 * @param port the first of six that are free
 * @param address where members listen; theirs is the name in their certificates
 */
export async function startEtcd(folder: string, port: number, address = '127.0.0.1'): Promise<EtcdLab> {
  const files = certificates(folder, address);
  const pem = { ca: text(files.ca), cert: text(files.cert), key: text(files.key) };
  const numbers = [0, 1, 2];
  const client = (n: number): string => `https://${address}:${port + n}`;
  const peer = (n: number): string => `https://${address}:${port + 3 + n}`;
  const tls = [
    ...['--client-cert-auth', '--peer-client-cert-auth'],
    ...['cert-file', 'peer-cert-file'].map((flag) => `--${flag}=${files.cert}`),
    ...['key-file', 'peer-key-file'].map((flag) => `--${flag}=${files.key}`),
    ...['trusted-ca-file', 'peer-trusted-ca-file'].map((flag) => `--${flag}=${files.ca}`),
  ];
  const members: ChildProcess[] = numbers.map((n) =>
    spawn(
      'etcd',
      [
        ...[`--name=m${n}`, `--data-dir=${join(folder, `m${n}`)}`, '--log-level=error', ...tls],
        ...[`--listen-client-urls=${client(n)}`, `--advertise-client-urls=${client(n)}`],
        ...[`--listen-peer-urls=${peer(n)}`, `--initial-advertise-peer-urls=${peer(n)}`],
        `--initial-cluster=${numbers.map((other) => `m${other}=${peer(other)}`).join(',')}`,
      ],
      { stdio: 'ignore' },
    ),
  );
  const leads = async (n: number): Promise<boolean> => {
    const found = await status(client(n), pem).catch(() => undefined);
    return found !== undefined && found.leader === found.header.member_id;
  };
  const leader = async (): Promise<number> => {
    const deadline = performance.now() + 30_000;
    for (;;) {
      for (const n of numbers) if (await leads(n)) return n;
      if (performance.now() > deadline) throw new Error('etcd has no leader');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const end = async (child: ChildProcess): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  };
  const close = async (): Promise<void> => void (await Promise.all(members.map(end)));
  try {
    await leader();
  } catch (error) {
    await close();
    throw error;
  }
  return {
    options: { endpoints: numbers.map(client), tls: pem },
    files,
    leader,
    freeze: (which) => {
      for (const n of which) members[n]!.kill('SIGSTOP');
    },
    thaw: () => {
      for (const member of members) member.kill('SIGCONT');
    },
    kill: (n) => end(members[n]!),
    close,
  };
}

type Status = { readonly leader: string; readonly header: { readonly member_id: string } };

async function status(endpoint: string, pem: Pem): Promise<Status> {
  const options = { ...pem, method: 'POST', agent: false, timeout: 1_000 };
  const call = request(new URL('/v3/maintenance/status', endpoint), options);
  call.on('timeout', () => call.destroy(new Error('no answer in time')));
  call.end('{}');
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += chunk;
  return JSON.parse(body) as Status;
}

/** A CA, and one certificate for members and clients. */
function certificates(folder: string, address: string): Pem {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const at = (name: string): string => join(folder, name);
  const openssl = (...words: string[]): void => void execFileSync('openssl', words, { stdio: 'ignore' });
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const ca = ['-x509', '-days', '2', '-subj', '/CN=etcd CA'];
  openssl('req', ...ca, ...curve, '-keyout', at('ca.key'), '-out', at('ca.pem'));
  openssl('req', ...curve, '-subj', '/CN=etcd', '-keyout', at('key.pem'), '-out', at('request.pem'));
  writeFileSync(
    at('extensions'),
    `subjectAltName=IP:${address},DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n`,
  );
  const signed = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '2'];
  const leaf = ['-in', at('request.pem'), '-extfile', at('extensions'), '-out', at('cert.pem')];
  openssl('x509', '-req', ...leaf, ...signed);
  return { ca: at('ca.pem'), cert: at('cert.pem'), key: at('key.pem') };
}

function text(path: string): string {
  return readFileSync(path, 'utf8');
}
