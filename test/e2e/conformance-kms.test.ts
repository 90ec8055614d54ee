/** `dstack-conformance kms`: our key service conforms, and each case finds one that does what it checks otherwise. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CaseResult, casesOf, readCommand } from '@dstack-cloud/conformance';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issueCertificate } from '@dstack-cloud/ra-tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { ALLOW } from '../harness/policy-webhook.ts';
import { repository } from '../harness/run-command.ts';
import {
  answersOf,
  type Question,
  questionsOf,
  reply,
  startWrongServer,
  type Wrong,
} from '../harness/wrong-server.ts';

const directory = mkdtempSync(join(tmpdir(), 'conformance-kms-'));
const WORKLOAD = labWorkload('conforming');
const OPTIONS = [
  '--extensions',
  '--cert',
  join(directory, 'client.pem'),
  '--key',
  join(directory, 'client.key'),
  '--app-id',
  toHex(WORKLOAD.appId),
];
let lab: KmsLab;
let kms: KmsProcess;

beforeAll(async () => {
  lab = await startKmsLab();
  lab.webhook.app = () => ALLOW;
  lab.webhook.kms = () => ALLOW;
  kms = await (await lab.host('conformance')).serve();
  const { cert, key } = await lab.identity(kms, WORKLOAD);
  writeFileSync(join(directory, 'client.pem'), cert);
  writeFileSync(join(directory, 'client.key'), key, { mode: 0o600 });
}, 120_000);
afterAll(async () => {
  await lab?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function conformance(url: string, ...argv: string[]): Promise<readonly CaseResult[]> {
  const command = readCommand(['kms', url, ...OPTIONS, ...argv]);
  if (command.kind !== 'run') throw new Error(command.kind);
  return await command.run({});
}

const tls = (() => {
  const key = generateP256Key();
  const subject = { commonName: 'wrong' };
  const notAfter = Math.floor(Date.now() / 1000) + 3600;
  const der = issueCertificate({ subject, spki: key.spki, issuer: key, notAfter, serverAuth: true });
  return { cert: certificatePem(der), key: p256KeyPem(key) };
})();

/** A wrong service behind which everybody is the attested machine, but for who asks with `--only` a stranger's case. */
async function found(wrong: Wrong, id: string): Promise<string[]> {
  const { hostname: host, port } = new URL(kms.url);
  const client = id.startsWith('kms.app-key.') && !id.endsWith('stranger');
  const identity = {
    cert: readFileSync(join(directory, 'client.pem'), 'utf8'),
    key: readFileSync(join(directory, 'client.key'), 'utf8'),
  };
  const good = { host, port: Number(port), isTls: true, ...(client ? { client: identity } : {}) };
  const server = await startWrongServer({ name: 'kms', good, place: { tls }, wrong });
  try {
    const results = await conformance(`https://127.0.0.1:${server.port}`, '--only', id);
    return results.filter(({ outcome }) => outcome === 'failed').map((result) => result.id);
  } finally {
    await server.close();
  }
}

it('our key service conforms, extensions included', async () => {
  const results = await conformance(kms.url);
  expect(results.filter(({ outcome }) => outcome !== 'passed')).toEqual([]);
  expect(results.length).toBe(casesOf('kms').length);
});

it('the command prints a line for each case, and says in its exit code how it went', async () => {
  const program = join(repository, 'dist/bin/dstack-conformance.js');
  const run = (...argv: string[]) =>
    new Promise<{ code: number; stdout: string }>((resolve) => {
      const env = { ...process.env };
      execFile(process.execPath, [program, ...argv], { env }, (error, stdout) =>
        resolve({ code: error === null ? 0 : Number(error.code), stdout }),
      );
    });
  const text = await run('kms', kms.url);
  expect(text.stdout).toMatch(/^passed {3}kms\.health$/m);
  expect(text).toMatchObject({ code: 0 });
  const known = join(directory, 'known.json');
  writeFileSync(known, JSON.stringify({ 'kms.health': 'nobody asks' }));
  const json = await run('kms', kms.url, '--json', '--known', known);
  expect(json.code).toBe(1);
  expect(JSON.parse(json.stdout)).toMatchObject({ suite: 'kms', failed: 0, no_deviation_any_more: 1 });
});

type Members = Record<string, unknown>;

const refuses = (when: (question: Question) => boolean): Wrong => ({
  ask: (question) => (when(question) ? reply(400, { error: 'refused' }) : undefined),
});
const answers = (when: (question: Question) => boolean, value: unknown): Wrong => ({
  ask: (question) => (when(question) ? reply(200, value) : undefined),
});
const member = (path: RegExp, name: string, value: unknown): Wrong =>
  answersOf(path, (members) => {
    if (name in members) members[name] = value;
  });
const flipped = (hex: unknown): string => {
  const text = String(hex);
  return text.slice(0, 8) + (text[8] === '0' ? '1' : '0') + text.slice(9);
};

const WRONG: readonly (readonly [string, Wrong, ...string[]])[] = [
  ['is ill', refuses((q) => q.path === '/health'), 'kms.health'],
  ['does not know its prefix', refuses((q) => q.path.includes('KMS.KMS.')), 'kms.wire.prefix'],
  [
    'knows JSON alone',
    {
      ask: (q) => {
        q.type ??= 'application/json';
      },
    },
    'kms.wire.encodings',
  ],
  ['has other texts', member(/NoSuch/, 'error', 'what?'), 'kms.wire.errors'],
  ['takes the last of two members', questionsOf(/./, () => undefined), 'kms.wire.malformed-json'],
  ['takes any size', answers((q) => q.body.length > 1e7, {}), 'kms.wire.too-large'],
  ['says nothing of the chain', member(/GetMeta/, 'chain_id', 'main'), 'kms.meta.members'],
  [
    'shows the bootstrap of another root',
    answersOf(/GetMeta/, (a) => {
      (a['bootstrap_info'] as Members)['k256_pubkey'] = flipped(a['k256_pubkey']);
    }),
    'kms.meta.bootstrap',
  ],
  ['gives another root with the temporary CA', member(/GetTempCaCert/, 'ca_cert', ''), 'kms.temp-ca'],
  [
    'signs another environment key',
    answersOf(/GetAppEnvEncryptPubKey/, (a) => {
      a['public_key'] = flipped(a['public_key']);
    }),
    'kms.env-key.signatures',
    'kms.app-key.env-key',
  ],
  [
    'has an old time',
    answersOf(/GetAppEnvEncryptPubKey/, (a) => {
      a['timestamp'] = Number(a['timestamp']) - 3600;
    }),
    'kms.env-key.signatures',
  ],
  [
    'has one environment key for all',
    questionsOf(/GetAppEnvEncryptPubKey/, (q) => {
      q['app_id'] = '11'.repeat(20);
    }),
    'kms.env-key.stable',
    'kms.env-key.app-id',
  ],
  [
    'gives strangers keys',
    answers((q) => q.path.includes('GetAppKey'), { k256_key: '00' }),
    'kms.app-key.stranger',
  ],
  [
    'gives strangers its root',
    answers((q) => q.path.includes('GetKmsKey'), { keys: [] }),
    'kms.kms-key.stranger',
  ],
  [
    'signs for every version',
    questionsOf(/SignCert/, (q) => {
      q['api_version'] = 2;
    }),
    'kms.sign-cert.version',
  ],
  [
    'signs anything',
    answers((q) => q.path.includes('SignCert'), { certificate_chain: [] }),
    'kms.sign-cert.garbage',
  ],
  [
    'clears its cache for anybody',
    answers((q) => q.path.includes('ClearImageCache'), {}),
    'kms.clear-image-cache',
  ],
  [
    'signs another application key',
    answersOf(/GetAppKey/, (a) => {
      a['k256_key'] = flipped(a['k256_key']);
    }),
    'kms.app-key.signature',
  ],
  [
    'leaves the older name of the gateway out',
    member(/GetAppKey/, 'tproxy_app_id', 'x'),
    'kms.app-key.members',
  ],
  [
    'gives keys for every version',
    questionsOf(/GetAppKey/, (q) => {
      q['api_version'] = 1;
    }),
    'kms.app-key.version',
  ],
  ['says that it is not ready', member(/ready/, 'ready', false), 'kms.ready'],
  ['has one nonce', answers((q) => q.path === '/nonce', { nonce: '00', expires_in: 300 }), 'kms.nonce'],
  ['signs another head', member(/GetAuditHead/, 'tree_size', 1_000_000), 'kms.audit-head'],
];

describe('a wrong key service is found', () => {
  it.each(WRONG.map(([name, wrong, ...ids]) => ({ name, wrong, ids })))('$name', async ({ wrong, ids }) => {
    for (const id of ids) expect(await found(wrong, id)).toContain(id);
  });

  it('by every case', () => {
    const covered = new Set(WRONG.flatMap(([, , ...ids]) => ids));
    expect(
      casesOf('kms')
        .map(({ id }) => id)
        .filter((id) => !covered.has(id)),
    ).toEqual([]);
  });

  it('and a good one behind the same relay is not', async () => {
    for (const { id } of casesOf('kms')) expect(await found({}, id)).toEqual([]);
  });
});
