/** `dstack-conformance agent`: our agent conforms, and each case finds a server that does what it checks otherwise. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CaseResult, casesOf, readCommand } from '@dstack-cloud/conformance';
import { createLogger } from '@dstack-cloud/guest-agent';
import { type RunningSimulator, startSimulator } from '@dstack-cloud/simulator';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  answersOf,
  type Question,
  questionsOf,
  type Reply,
  reply,
  startWrongServer,
  type Wrong,
} from '../harness/wrong-server.ts';

const SOCKETS = ['dstack', 'tappd', 'external', 'guest'];
const ALL = ['--extensions', '--emit-events'];
let directory: string;
let simulator: RunningSimulator;
let count = 0;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'conformance-'));
  mkdirSync(join(directory, 'good'));
  const log = createLogger('test');
  log.level = 'silent';
  simulator = await startSimulator({ directory: join(directory, 'good') }, log);
});
afterAll(async () => {
  await simulator?.close();
  rmSync(directory, { recursive: true, force: true });
});

async function conformance(...argv: string[]): Promise<readonly CaseResult[]> {
  const command = readCommand(['agent', ...argv]);
  if (command.kind !== 'run') throw new Error(command.kind);
  return await command.run({});
}

/** Ids of the cases that do not pass at a server that is wrong. */
async function found(wrong: Wrong, ...argv: string[]): Promise<string[]> {
  const place = join(directory, `wrong-${count++}`);
  mkdirSync(place);
  const servers = await Promise.all(
    SOCKETS.map((name) =>
      startWrongServer({
        name,
        good: { socketPath: join(directory, 'good', `${name}.sock`) },
        place: { socketPath: join(place, `${name}.sock`) },
        wrong,
      }),
    ),
  );
  try {
    const results = await conformance(place, ...ALL, ...argv);
    return results.filter(({ outcome }) => outcome === 'failed').map(({ id }) => id);
  } finally {
    await Promise.all(servers.map((server) => server.close()));
  }
}

it('our agent conforms, extensions included', async () => {
  const results = await conformance(join(directory, 'good'), ...ALL);
  expect(results.filter(({ outcome }) => outcome !== 'passed')).toMatchObject([
    { id: 'agent.get-key.issuer', outcome: 'skipped' },
  ]);
  expect(results.length).toBe(casesOf('agent').length);
});

const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  .privateKey.export({ type: 'pkcs8', format: 'pem' })
  .toString();
const isJson = ({ body }: { body: Buffer }): boolean => {
  try {
    JSON.parse(body.toString());
    return true;
  } catch {
    return false;
  }
};
const CURVE_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const withHighS = (signature: string): string =>
  signature.slice(0, 64) + (CURVE_ORDER - BigInt(`0x${signature.slice(64)}`)).toString(16).padStart(64, '0');

/** The first answer to a path is that to all later ones. */
function remembers(path: RegExp): Wrong {
  let first: Reply | undefined;
  return {
    answer: (given, question) => {
      if (!path.test(question.path)) return;
      first ??= { ...given };
      Object.assign(given, first);
    },
  };
}

function tcb(change: (members: Record<string, unknown>) => void): Wrong {
  return answersOf(/Info$/, (info) => {
    const members = JSON.parse(String(info['tcb_info'])) as Record<string, unknown>;
    change(members);
    info['tcb_info'] = JSON.stringify(members);
  });
}

const refuses = (when: (question: Question, name: string) => boolean, status = 400): Wrong => ({
  ask: (question, name) => (when(question, name) ? reply(status, { error: 'refused' }) : undefined),
});
const answers = (when: (question: Question, name: string) => boolean, value: unknown): Wrong => ({
  ask: (question, name) => (when(question, name) ? reply(200, value) : undefined),
});

/** Servers that do one thing wrong, and the cases that must find it. */
const WRONG: readonly (readonly [string, Wrong, ...string[]])[] = [
  [
    'does not read the query of GET',
    {
      ask: (q) => {
        q.path = q.path.replace(/^(\/GetKey)\?.*/, '$1');
      },
    },
    'agent.wire.get',
  ],
  [
    'takes + in a query for a plus',
    {
      ask: (q) => {
        q.path = q.path.replaceAll('+', '%2B');
      },
    },
    'agent.wire.get',
  ],
  [
    'wants Content-Type to the letter',
    {
      ask: (q) => {
        q.type = q.type === 'application/json' ? q.type : 'text/plain';
      },
    },
    'agent.wire.content-type',
  ],
  [
    'does not know ?json',
    {
      ask: (q) => {
        q.path = q.path.replace(/\?json.*/, '');
      },
    },
    'agent.wire.json-query',
  ],
  [
    'knows JSON alone',
    {
      ask: (q) => {
        q.type ??= 'application/json';
      },
    },
    'agent.wire.protobuf',
  ],
  [
    'has another text for an unknown method',
    answersOf(/NoSuch/, (a) => {
      a['error'] = 'what?';
    }),
    'agent.wire.unknown-method',
  ],
  [
    'says 400 to an unknown method',
    {
      answer: (a) => {
        if (a.status === 404) a.status = 400;
      },
    },
    'agent.wire.unknown-method-404',
  ],
  ['writes errors on one line', answersOf(/GetKey/, () => undefined), 'agent.wire.error-json'],
  [
    'answers errors in JSON always',
    {
      answer: (a) => {
        if (a.status === 400) a.body = Buffer.from('{"error":"no"}');
      },
    },
    'agent.wire.error-protobuf',
  ],
  ['does not know 0x', refuses((q) => q.body.includes('"0x')), 'agent.wire.hex-input'],
  ['refuses unknown members', refuses((q) => q.body.includes('nobody_knows')), 'agent.wire.unknown-field'],
  ['takes the last of two members', questionsOf(/GetKey/, () => undefined), 'agent.wire.malformed-json'],
  ['wants a body', refuses((q) => q.method === 'POST' && q.body.length === 0), 'agent.wire.defaults'],
  [
    'reads bodies that mean nothing',
    refuses((q) => q.type === 'application/json' && !isJson(q)),
    'agent.wire.body-ignored',
  ],
  [
    'takes any case of letters for a method',
    {
      ask: (q) => {
        q.path = q.path.replace('/getkey', '/GetKey');
      },
    },
    'agent.wire.paths',
  ],
  [
    'takes PUT for GET',
    {
      ask: (q) => {
        if (q.method === 'PUT') q.method = 'GET';
      },
    },
    'agent.wire.verbs',
  ],
  ['sends chunks', { isChunked: true }, 'agent.wire.content-length'],
  ['does not close', { staysOpen: true }, 'agent.wire.half-close'],
  [
    'closes after each answer',
    {
      answer: (a) => {
        a.headers['connection'] = 'close';
      },
    },
    'agent.wire.keep-alive',
  ],
  ['writes UTF-8', answersOf(/Caf/, () => undefined), 'agent.wire.ascii'],
  [
    'has one key',
    questionsOf(/GetKey$/, (q) => {
      q['path'] = '';
    }),
    'agent.get-key.stable',
  ],
  [
    'derives from the purpose',
    questionsOf(/GetKey$/, (q) => {
      q['path'] = `${q['path']}${q['purpose']}`;
    }),
    'agent.get-key.purpose',
  ],
  ['does not know k256', refuses((q) => q.body.includes('"k256"')), 'agent.get-key.k256'],
  [
    'takes the prehashed algorithm for a key',
    questionsOf(/GetKey$/, (q) => {
      if (q['algorithm'] === 'secp256k1_prehashed') q['algorithm'] = '';
    }),
    'agent.get-key.unsupported',
  ],
  [
    'signs without the purpose',
    questionsOf(/GetKey$/, (q) => {
      q['purpose'] = '';
    }),
    'agent.get-key.chain',
  ],
  [
    'writes v as Ethereum does',
    answersOf(/GetKey$/, (a) => {
      const [first, second] = (a['signature_chain'] ?? []) as string[];
      if (first === undefined) return;
      const v = Number.parseInt(first.slice(128), 16) + 27;
      a['signature_chain'] = [first.slice(0, 128) + v.toString(16), second];
    }),
    'agent.get-key.signature-form',
  ],
  [
    'has a second signature that is none',
    answersOf(/GetKey$/, (a) => {
      a['signature_chain'] = [(a['signature_chain'] as string[] | undefined)?.[0], 'ff'.repeat(65)];
    }),
    'agent.get-key.issuer',
  ],
  [
    'signs with a high s',
    answersOf(/Sign$/, (a) => {
      if (typeof a['signature'] === 'string') a['signature'] = withHighS(a['signature']);
    }),
    'agent.sign.secp256k1',
    'agent.sign.chain',
  ],
  [
    'hashes a digest',
    questionsOf(/Sign$/, (q) => {
      if (q['algorithm'] === 'secp256k1_prehashed') q['algorithm'] = 'secp256k1';
    }),
    'agent.sign.prehashed',
  ],
  [
    'signs something else',
    questionsOf(/Sign$/, (q) => {
      q['data'] = `00${q['data']}`;
    }),
    'agent.sign.ed25519',
  ],
  [
    'takes a signature for secp256k1 when nothing is said',
    questionsOf(/Sign$/, (q) => {
      q['algorithm'] ||= 'secp256k1';
    }),
    'agent.sign.unsupported',
  ],
  [
    'verifies everything',
    answersOf(/Verify$/, (a) => {
      a['valid'] = true;
    }),
    'agent.verify.answers',
    'agent.verify.high-s',
  ],
  [
    'says false to what is malformed',
    {
      answer: (a, q) => {
        if (/Verify$/.test(q.path) && a.status === 400) Object.assign(a, reply(200, { valid: false }));
      },
    },
    'agent.verify.malformed',
  ],
  [
    'gives the key of another certificate',
    answersOf(/GetTlsKey$/, (a) => {
      a['key'] = otherKey;
    }),
    'agent.get-tls-key.form',
  ],
  ['gives one TLS key', remembers(/GetTlsKey$/), 'agent.get-tls-key.random'],
  [
    'leaves names out',
    questionsOf(/GetTlsKey$/, (q) => {
      delete q['alt_names'];
    }),
    'agent.get-tls-key.names',
  ],
  [
    'adds a usage',
    questionsOf(/GetTlsKey$/, (q) => {
      q['usage_client_auth'] = true;
    }),
    'agent.get-tls-key.usages',
  ],
  [
    'does not know not_before',
    questionsOf(/GetTlsKey$/, (q) => {
      delete q['not_before'];
    }),
    'agent.get-tls-key.times',
    'agent.get-tls-key.times-refused',
  ],
  [
    'does not know not_after',
    questionsOf(/GetTlsKey$/, (q) => {
      delete q['not_after'];
    }),
    'agent.get-tls-key.far-times',
  ],
  [
    'gives no evidence',
    questionsOf(/GetTlsKey$/, (q) => {
      q['usage_ra_tls'] = false;
    }),
    'agent.get-tls-key.evidence',
  ],
  [
    'gives evidence always',
    questionsOf(/GetTlsKey$/, (q) => {
      q['usage_ra_tls'] = true;
    }),
    'agent.get-tls-key.no-evidence',
  ],
  [
    'leaves the application out',
    questionsOf(/GetTlsKey$/, (q) => {
      q['with_app_info'] = false;
    }),
    'agent.get-tls-key.app-info',
  ],
  [
    'gives the certificate of the CA alone',
    answersOf(/GetTlsKey$/, (a) => {
      const chain = a['certificate_chain'] as string[] | undefined;
      if (chain !== undefined) a['certificate_chain'] = [chain.at(-1), chain.at(-1)];
    }),
    'agent.get-tls-key.usage-text',
  ],
  [
    'derives at random',
    questionsOf(/DeriveKey$/, (q) => {
      q['random_seed'] = true;
    }),
    'agent.tappd.derive-key',
  ],
  [
    'does not know random_seed',
    questionsOf(/DeriveKey$/, (q) => {
      q['random_seed'] = false;
    }),
    'agent.tappd.random-seed',
  ],
  [
    'leaves a member of Info out',
    answersOf(/Info$/, (a) => {
      delete a['cloud_vendor'];
    }),
    'agent.info.members',
  ],
  [
    'writes the key provider as text',
    answersOf(/Info$/, (a) => {
      a['key_provider_info'] = 'kms';
    }),
    'agent.info.key-provider',
  ],
  ['has no registers', tcb((t) => delete t['rtmr0']), 'agent.info.tcb-info'],
  [
    'shows another app-compose',
    tcb((t) => {
      t['app_compose'] = `${t['app_compose']}\n`;
    }),
    'agent.info.compose-hash',
  ],
  [
    'shows another RTMR3',
    tcb((t) => {
      t['rtmr3'] = t['rtmr2'];
    }),
    'agent.info.replay',
  ],
  [
    'has another app id than was measured',
    answersOf(/Info$/, (a) => {
      a['app_id'] = '00'.repeat(20);
    }),
    'agent.info.events',
  ],
  [
    'has an app_cert that is none',
    answersOf(/Info$/, (a) => {
      a['app_cert'] = 'soon';
    }),
    'agent.info.app-cert',
  ],
  [
    'has no version',
    answersOf(/Version$/, (a) => {
      a['version'] = '';
    }),
    'agent.version',
    'agent.worker.version',
  ],
  ['knows nothing of GPUs', answers((q) => q.path === '/GpuInfo', {}), 'agent.gpu-info'],
  [
    'has another Info for Tappd',
    answersOf(/Info$/, (a, _, name) => {
      if (name === 'tappd') a['instance_id'] = '';
    }),
    'agent.tappd.info',
  ],
  [
    'pads on the left',
    questionsOf(/GetQuote$/, (q) => {
      q['report_data'] = String(q['report_data']).padStart(128, '0');
    }),
    'agent.get-quote.report-data',
  ],
  [
    'cuts long report data',
    questionsOf(/GetQuote$|Attest$/, (q) => {
      q['report_data'] = String(q['report_data']).slice(0, 128);
    }),
    'agent.get-quote.too-long',
  ],
  [
    'has no event log',
    answersOf(/GetQuote$/, (a) => {
      a['event_log'] = '[]';
    }),
    'agent.get-quote.event-log',
  ],
  [
    'leaves digests of runtime events out',
    answersOf(/GetQuote$/, (a) => {
      if (typeof a['event_log'] !== 'string') return;
      const log = JSON.parse(a['event_log']) as { imr: number; digest: string }[];
      for (const event of log) if (event.imr === 3) event.digest = '';
      a['event_log'] = JSON.stringify(log);
    }),
    'agent.get-quote.runtime-digests',
  ],
  [
    'has no vm_config',
    answersOf(/GetQuote$/, (a) => {
      a['vm_config'] = '';
    }),
    'agent.get-quote.vm-config',
  ],
  [
    'shows no registers of the quote',
    answersOf(/GetQuote$/, (a) => {
      delete a['rtmr3'];
    }),
    'agent.get-quote.registers',
  ],
  [
    'does not know base64',
    {
      ask: (q) => {
        q.path = q.path.replace('&encoding=base64', '');
      },
    },
    'agent.get-quote.base64',
  ],
  ['has one quote for everybody', remembers(/GetQuote$/), 'agent.get-quote.at-once'],
  [
    'attests nothing',
    questionsOf(/Attest$/, (q) => {
      q['report_data'] = '';
    }),
    'agent.attest.report-data',
  ],
  [
    'does not know GetAttestation',
    refuses((q) => q.path.startsWith('/GetAttestation'), 404),
    'agent.get-attestation',
  ],
  [
    'measures no event',
    answers((q) => q.path === '/EmitEvent', null),
    'agent.emit-event.extends',
    'agent.emit-event.reserved',
  ],
  ['takes one prefix at most', refuses((q) => q.path.includes('Tappd.Tappd'), 404), 'agent.tappd.prefix'],
  [
    'derives one k256 key',
    questionsOf(/DeriveK256Key$/, (q) => {
      q['path'] = '';
    }),
    'agent.tappd.derive-k256-key',
  ],
  [
    'hashes with SHA-512 always',
    questionsOf(/TdxQuote$/, (q) => {
      q['hash_algorithm'] = '';
    }),
    'agent.tappd.quote-hashes',
    'agent.tappd.unknown-hash',
  ],
  [
    'does not know the tag',
    questionsOf(/TdxQuote$/, (q) => {
      q['prefix'] = '';
    }),
    'agent.tappd.quote-prefix',
  ],
  [
    'says app-data for every tag',
    answersOf(/TdxQuote$/, (a) => {
      a['prefix'] = 'app-data';
    }),
    'agent.tappd.quote-prefix-echo',
  ],
  [
    'pads raw quotes',
    questionsOf(/RawQuote$/, (q) => {
      q['report_data'] = String(q['report_data']).padEnd(128, '0');
    }),
    'agent.tappd.raw-quote',
  ],
  [
    'has only the old methods at Tappd',
    refuses((q, name) => name === 'tappd' && q.path === '/GetKey', 404),
    'agent.tappd.dstack-methods',
  ],
  [
    'shows strangers no tcb_info',
    answersOf(/Info$/, (a, _, name) => {
      if (name === 'external') a['tcb_info'] = '';
    }),
    'agent.worker.info',
  ],
  [
    'gives strangers keys',
    answers((q, name) => name === 'external' && q.path === '/prpc/GetKey', { key: '00' }),
    'agent.worker.no-keys',
  ],
  [
    'quotes another key',
    answersOf(/GetAttestationForAppKey$/, (a) => {
      a['report_data'] = '00'.repeat(64);
    }),
    'agent.worker.app-key',
  ],
  [
    'quotes a key of any type',
    questionsOf(/GetAttestationForAppKey$/, (q) => {
      q['algorithm'] ||= 'secp256k1';
    }),
    'agent.worker.app-key-unsupported',
  ],
  [
    'has a page of somebody else',
    {
      answer: (a, q) => {
        if (q.path === '/') a.body = Buffer.from('hello');
      },
    },
    'agent.worker.page',
  ],
  ['hands names of logs on', answers((q) => q.path.startsWith('/logs/'), {}), 'agent.worker.log-names'],
  [
    'attests what strangers say',
    answersOf(/^\/attestation/, (a) => {
      a['report_data'] = a['nonce'];
    }),
    'agent.worker.attestation',
  ],
  ['is never well', refuses((q) => q.path === '/healthz', 503), 'agent.worker.health'],
  ['has no metrics', refuses((q) => q.path === '/metrics', 404), 'agent.worker.metrics'],
  [
    'tells the host of another instance',
    answersOf(/^\/api\/Info/, (a) => {
      a['instance_id'] = '';
    }),
    'agent.host.info',
  ],
  [
    'writes numbers as text',
    answersOf(/SysInfo/, (a) => {
      a['num_cpus'] = `${a['num_cpus']}`;
    }),
    'agent.host.system',
  ],
  ['gives the host keys', answers((q) => q.path === '/api/GetKey', { key: '00' }), 'agent.host.no-keys'],
];

describe('a wrong agent is found', () => {
  it.each(WRONG.map(([name, wrong, ...ids]) => ({ name, wrong, ids })))('$name', async ({ wrong, ids }) => {
    for (const id of ids) expect(await found(wrong, '--only', id)).toContain(id);
  });

  it('by every case', () => {
    const covered = new Set(WRONG.flatMap(([, , ...ids]) => ids));
    expect(
      casesOf('agent')
        .map(({ id }) => id)
        .filter((id) => !covered.has(id)),
    ).toEqual([]);
  });

  it('and a good server behind the same relay is not', async () => {
    expect(await found({})).toEqual([]);
  });
});
