// An etcd of three members on loopback, with TLS on both sides; nothing outside of tests imports it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issueCertificate, issuerOf, rootCa } from '@dstack-cloud/ra-tls';
import { EtcdClient, type EtcdOptions } from '../state/etcd-client.ts';

export type EtcdLab = {
  readonly options: EtcdOptions;
  /** PEM files of what `options` holds. */
  readonly files: { readonly ca: string; readonly cert: string; readonly key: string };
  /** Which member leads. */
  leader(): Promise<number>;
  /** Stops members without a word, as a cut cable does, or lets them go on. */
  freeze(members: readonly number[]): void;
  thaw(): void;
  kill(member: number): Promise<void>;
  close(): Promise<void>;
};

/** @param port the first of six that are free */
export async function startEtcd(folder: string, port: number): Promise<EtcdLab> {
  const files = certificates(folder);
  const numbers = [0, 1, 2];
  const client = (n: number): string => `https://localhost:${port + n}`;
  const peer = (n: number): string => `https://localhost:${port + 3 + n}`;
  const tls = [
    ...['--client-cert-auth', '--peer-client-cert-auth'],
    ...['cert-file', 'peer-cert-file'].map((flag) => `--${flag}=${files.cert}`),
    ...['key-file', 'peer-key-file'].map((flag) => `--${flag}=${files.key}`),
    ...['trusted-ca-file', 'peer-trusted-ca-file'].map((flag) => `--${flag}=${files.ca}`),
  ];
  const listens = (url: string): string => url.replace('localhost', '127.0.0.1');
  const members: ChildProcess[] = numbers.map((n) =>
    spawn(
      'etcd',
      [
        ...[`--name=m${n}`, `--data-dir=${join(folder, `m${n}`)}`, '--log-level=error', ...tls],
        ...[`--listen-client-urls=${listens(client(n))}`, `--advertise-client-urls=${client(n)}`],
        ...[`--listen-peer-urls=${listens(peer(n))}`, `--initial-advertise-peer-urls=${peer(n)}`],
        `--initial-cluster=${numbers.map((other) => `m${other}=${peer(other)}`).join(',')}`,
      ],
      { stdio: 'ignore' },
    ),
  );
  const options = { endpoints: numbers.map(client), tls: files.pem };
  const status = async (n: number): Promise<{ leader: string; header: { member_id: string } }> => {
    const one = new EtcdClient({ ...options, endpoints: [client(n)] });
    try {
      return await one.call('/maintenance/status', {});
    } finally {
      one.close();
    }
  };
  const leads = async (n: number): Promise<boolean> => {
    const found = await status(n).catch(() => undefined);
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
    options,
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

function certificates(folder: string) {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const now = Math.floor(Date.now() / 1000);
  const key = generateP256Key();
  const root = rootCa({ key, now });
  const own = generateP256Key();
  const leaf = issueCertificate({
    subject: { commonName: 'localhost' },
    spki: own.spki,
    issuer: issuerOf(root, key),
    notAfter: now + 3600,
    altNames: ['localhost'],
    serverAuth: true,
    clientAuth: true,
  });
  const pem = { ca: certificatePem(root), cert: certificatePem(leaf), key: p256KeyPem(own) };
  const at = (name: keyof typeof pem): string => {
    const path = join(folder, `${name}.pem`);
    writeFileSync(path, pem[name], { mode: 0o600 });
    return path;
  };
  return { ca: at('ca'), cert: at('cert'), key: at('key'), pem };
}
