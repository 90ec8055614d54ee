/** `dstack-conformance verifier`: ours conforms, and each case finds one that does what it checks otherwise. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CaseResult, casesOf, readCommand } from '@dstack-cloud/conformance';
import { fromHex } from '@dstack-cloud/encoding';
import { createLogger } from '@dstack-cloud/guest-agent';
import { build } from '@dstack-cloud/scripts/build';
import { type RunningSimulator, startSimulator } from '@dstack-cloud/simulator';
import { freePort } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { repository } from '../harness/run-command.ts';
import { answersOf, reply, startWrongServer, type Wrong } from '../harness/wrong-server.ts';

const directory = mkdtempSync(join(tmpdir(), 'conformance-verifier-'));
const EVIDENCE = join(directory, 'evidence.bin');
let simulator: RunningSimulator;
let verifier: ChildProcess;
let port: number;

beforeAll(async () => {
  await build();
  const folder = join(directory, 'sim');
  mkdirSync(folder);
  const log = createLogger('test');
  log.level = 'silent';
  simulator = await startSimulator({ directory: folder }, log);
  writeFileSync(EVIDENCE, await attestation(simulator.sockets.dstack));
  port = await freePort();
  const config = join(directory, 'verifier.toml');
  writeFileSync(
    config,
    `address = "127.0.0.1"
port = ${port}
image_cache_dir = ${JSON.stringify(join(directory, 'cache'))}
[attestation]
insecure_allow_external_trust_anchors = true
[attestation.urls]
pccs = ${JSON.stringify(simulator.collateralUrl)}
[attestation.root_ca]
tdx = ${JSON.stringify(simulator.rootFile)}
`,
  );
  verifier = spawn(process.execPath, [join(repository, 'dist/bin/dstack-verifier.js'), '-c', config], {
    stdio: 'ignore',
  });
  for (let tries = 0; !(await isUp()); tries++) {
    if (tries === 200 || verifier.exitCode !== null) throw new Error('dstack-verifier does not start');
    await sleep(100);
  }
}, 120_000);
afterAll(async () => {
  if (verifier !== undefined && verifier.exitCode === null) {
    verifier.kill('SIGKILL');
    await once(verifier, 'exit');
  }
  await simulator?.close();
  rmSync(directory, { recursive: true, force: true });
});

function isUp(): Promise<boolean> {
  return new Promise((resolve) => {
    const outgoing = request({ host: '127.0.0.1', port, path: '/health', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    outgoing.once('error', () => resolve(false));
    outgoing.end();
  });
}

function attestation(socketPath: string): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path: '/Attest?report_data=01', agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.once('end', () => resolve(fromHex((JSON.parse(text) as { attestation: string }).attestation)));
    });
    outgoing.once('error', reject);
    outgoing.end();
  });
}

async function conformance(at: number, ...argv: string[]): Promise<readonly CaseResult[]> {
  const command = readCommand(['verifier', `http://127.0.0.1:${at}`, '--evidence', EVIDENCE, ...argv]);
  if (command.kind !== 'run') throw new Error(command.kind);
  return await command.run({});
}

it('our verifier conforms', async () => {
  const results = await conformance(port);
  expect(results.filter(({ outcome }) => outcome !== 'passed')).toEqual([]);
  expect(results.length).toBe(casesOf('verifier').length);
});

const verdict = (change: (members: Record<string, unknown>) => void): Wrong => answersOf(/verify/, change);

const WRONG: readonly (readonly [string, Wrong, ...string[]])[] = [
  [
    'is ill',
    answersOf(/health/, (a) => {
      a['status'] = 'ill';
    }),
    'verifier.health',
  ],
  [
    'verifies by GET',
    { ask: (q) => (q.method === 'GET' ? reply(200, { is_valid: true }) : undefined) },
    'verifier.routes',
  ],
  [
    'says 500 to what it cannot read',
    {
      answer: (a) => {
        if (a.status === 422) a.status = 500;
      },
    },
    'verifier.not-json',
  ],
  [
    'has other reasons',
    verdict((a) => {
      a['reason'] = 'no';
    }),
    'verifier.nothing',
  ],
  [
    'accepts everything',
    verdict((a) => Object.assign(a, { is_valid: true, reason: null })),
    'verifier.garbage',
    'verifier.changed',
    'verifier.cut',
  ],
  [
    'says that it verified what it did not',
    verdict((a) => {
      (a['details'] as Record<string, unknown>)['quote_verified'] = true;
    }),
    'verifier.members',
  ],
  [
    'accepts nothing',
    verdict((a) => Object.assign(a, { is_valid: false, reason: 'no' })),
    'verifier.accepts',
  ],
];

describe('a wrong verifier is found', () => {
  const found = async (wrong: Wrong, ...argv: string[]): Promise<string[]> => {
    const good = { host: '127.0.0.1', port, isTls: false };
    const server = await startWrongServer({ name: 'verifier', good, place: {}, wrong });
    try {
      const results = await conformance(server.port, ...argv);
      return results.filter(({ outcome }) => outcome === 'failed').map(({ id }) => id);
    } finally {
      await server.close();
    }
  };

  it.each(WRONG.map(([name, wrong, ...ids]) => ({ name, wrong, ids })))('$name', async ({ wrong, ids }) => {
    for (const id of ids) expect(await found(wrong, '--only', id)).toContain(id);
  });

  it('by every case', () => {
    const covered = new Set(WRONG.flatMap(([, , ...ids]) => ids));
    expect(
      casesOf('verifier')
        .map(({ id }) => id)
        .filter((id) => !covered.has(id)),
    ).toEqual([]);
  });

  it('and a good one behind the same relay is not', async () => {
    expect(await found({})).toEqual([]);
  });
});
