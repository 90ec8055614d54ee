/**
 * What somebody else wrote commands no terminal, hides nothing and forges no line, wherever it comes out: every program
 * is given the same hostile text by the way that an attacker has, and prints it so that it can be seen.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../harness/run-command.ts';

/** Clears the screen, sets the title, turns red, reorders, hides, and goes on as a line of the program's own. */
const HOSTILE =
  'x\u001b[2J\u001b]0;t\u0007\u009b31m\u202edcba\u202c\u200b\u2028\nError: forged\r\n  Next:     rm -rf ~';
/** One of its characters as it is shown: in text, and in JSON. */
const SHOWN = /\\u\{202e\}|\\u202e/;

let bin: string;
let directory: string;
let peer: Server;
let url: string;
/** What the peer answers. */
let answer: { status: number; body: string };

beforeAll(async () => {
  bin = (await build()).directory;
  directory = mkdtempSync(join(tmpdir(), 'dstack-text-'));
  peer = createServer((_request, response) => response.writeHead(answer.status).end(answer.body));
  await new Promise<void>((resolve) => peer.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(peer.address() as AddressInfo).port}`;
}, 120_000);
afterAll(() => {
  peer?.closeAllConnections();
  peer?.close();
  if (directory) rmSync(directory, { recursive: true, force: true });
});

function file(name: string, content: string): string {
  const path = join(directory, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

/** What reaches a terminal and must not: all control characters but line feed and tab, and what reorders or hides. */
function harmfulIn(text: string): string[] {
  const harmful = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
  return (text.match(harmful) ?? [])
    .filter((one) => one !== '\n' && one !== '\t')
    .map((one) => JSON.stringify(one));
}

interface Sink {
  readonly name: string;
  /** Prepares what the attacker controls, and says what is run. */
  /** Whose lines are all somebody else's. */
  readonly isLog?: boolean;
  readonly run: () => { program: string; args: string[]; env?: Record<string, string>; input?: string };
}

const SINKS: readonly Sink[] = [
  {
    name: 'dstack-cloud: a name in a compose file',
    run: () => {
      const ids = { app_id: '11'.repeat(20), instance_id_seed: '22'.repeat(20) };
      const app = {
        name: 'x',
        platform: 'local',
        os_image: 'dstack-sim-0.6.0',
        key_provider: 'none',
        ...ids,
      };
      file('app.json', JSON.stringify(app));
      file('docker-compose.yaml', JSON.stringify({ services: { [HOSTILE]: { image: 'x' } } }));
      return { program: 'dstack-cloud', args: ['-C', directory, 'deploy', '--dry-run'] };
    },
  },
  {
    name: 'dstack-cloud: the same with --json',
    run: () => ({ program: 'dstack-cloud', args: ['-C', directory, '--json', 'deploy', '--dry-run'] }),
  },
  {
    name: 'dstack-cloud: the state of a copied project',
    run: () => {
      file('app.json', JSON.stringify({ name: 'x', platform: 'local', os_image: 'dstack-sim-0.6.0' }));
      file('state.json', JSON.stringify({ status: HOSTILE, instance_name: HOSTILE, machine_dir: HOSTILE }));
      return { program: 'dstack-cloud', args: ['-C', directory, 'status'] };
    },
  },
  {
    name: 'dstack-cloud: an answer of a key service',
    run: () => {
      answer = { status: 500, body: JSON.stringify({ error: HOSTILE }) };
      const trusted = `02${'11'.repeat(32)}`;
      return {
        program: 'dstack-cloud',
        args: ['kms', 'audit', 'verify', '--url', url, '--trust-signer', trusted],
      };
    },
  },
  {
    name: 'dstack-cloud: words of the command line itself',
    run: () => ({ program: 'dstack-cloud', args: ['logs', `--${HOSTILE}`] }),
  },
  {
    name: 'dstack-cloud verify: evidence of a guest agent',
    run: () => {
      answer = {
        status: 200,
        body: JSON.stringify({ attestation: '', [HOSTILE]: HOSTILE, quote: 5, pcrs: 1 }),
      };
      return { program: 'dstack-cloud', args: ['verify', url, '--expect', `mode=${HOSTILE}`] };
    },
  },
  {
    name: 'dstack-verifier verify: a file and its name',
    run: () => {
      const json = {
        attestation: { tpm: { ecc_p256: { attest_data: '00', signature: '00' } }, gcp: {} },
        pcrs: { sha256: { [HOSTILE]: '00' } },
        ak_pubkeys: { ecc_p256: { x: '00'.repeat(32), y: '00'.repeat(32) } },
      };
      const path = file(`\u202e\u001b[31m.json`, JSON.stringify(json));
      return { program: 'dstack-verifier', args: ['verify', path, '--collateral', 'none'] };
    },
  },
  {
    name: 'dstack-verifier verify --json',
    run: () => {
      const json = { attestation: 'zz', app_compose: HOSTILE };
      const path = file('\u202e.json', JSON.stringify(json));
      return { program: 'dstack-verifier', args: ['verify', `${path}-missing`, '--json'] };
    },
  },
  {
    name: 'dstack-verifier eventlog',
    run: () => ({ program: 'dstack-verifier', args: ['eventlog', file('\u202e.log', HOSTILE)] }),
  },
  {
    name: 'dstack-verifier --verify',
    run: () => ({
      program: 'dstack-verifier',
      args: ['--verify', join(directory, `\u202e${'x'.repeat(10)}`)],
    }),
  },
  {
    name: 'dstack-verifier: its configuration',
    run: () => ({ program: 'dstack-verifier', args: ['-c', file('v.toml', '"\\u202e\\u001b[2J" = 1\n')] }),
  },
  {
    name: 'dstack-vmm logs: what a guest printed',
    isLog: true,
    run: () => {
      file('machine/logs/serial.log', `${HOSTILE}\n`);
      return { program: 'dstack-vmm', args: ['logs', join(directory, 'machine')] };
    },
  },
  {
    name: 'dstack-vmm status: a machine of somebody else',
    run: () => ({ program: 'dstack-vmm', args: ['status', join(directory, '\u202e\u001b[2J')] }),
  },
  {
    name: 'dstack-kms: its configuration',
    run: () => ({
      program: 'dstack-kms',
      args: ['check-config', '-c', file('kms.toml', '[core]\n"\\u202e\\u001b[2J" = 1\n')],
    }),
  },
  {
    name: 'dstack-auth-api: its environment',
    run: () => ({
      program: 'dstack-auth-api',
      args: [],
      env: { KMS_CONTRACT_ADDR: `0x${'11'.repeat(20)}`, HOST: HOSTILE, PORT: '0' },
    }),
  },
  {
    name: 'dstack-guest-agent: its configuration',
    run: () => ({
      program: 'dstack-guest-agent',
      args: ['-c', file('guest.json', JSON.stringify({ [HOSTILE]: 1 }))],
    }),
  },
];

describe('foreign text', () => {
  test.each(SINKS)('$name', async ({ run, isLog }) => {
    const { program, args, env, input } = run();
    const { stdout, stderr } = await runCommand([join(bin, program), ...args], {
      cwd: directory,
      env: { HOME: directory, FORCE_COLOR: '1', ...env },
      timeoutMs: 30_000,
      ...(input === undefined ? {} : { input }),
    });
    const output = `${stdout}${stderr}`;
    expect(harmfulIn(output)).toEqual([]);
    // Else nothing was tested.
    expect(output).toMatch(SHOWN);
    if (isLog) return;
    expect(output.split('\n').filter((line) => /^(Error: forged|\s*Next: {5}rm)/.test(line))).toEqual([]);
  });
});
