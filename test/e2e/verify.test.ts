/** Who verifies decides: what a prover, its recordings and its files can bring about, against a real machine. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Outcome, repository, runCommand } from '../harness/run-command.ts';
import { type Stack, startStack } from '../harness/stack.ts';

interface Report {
  readonly is_valid: boolean;
  readonly verdict: string;
  readonly verdict_text: string;
  readonly verified_at: number;
  readonly verified_now: boolean;
  readonly compared: readonly { name: string; ok: boolean }[];
  readonly links: readonly { name: string; ok: boolean | null; why: string }[];
}

let stack: Stack;
let directory: string;
let project: string;
let prover: Server | undefined;

beforeAll(async () => {
  stack = await startStack();
  directory = mkdtempSync(join(tmpdir(), 'dstack-verify-'));
  project = join(directory, 'shown');
}, 120_000);
afterAll(async () => {
  prover?.closeAllConnections();
  prover?.close();
  await stack?.stop();
  if (directory) rmSync(directory, { recursive: true, force: true });
}, 60_000);

const run = (program: string, ...args: string[]): Promise<Outcome> =>
  runCommand([join(repository, 'dist/bin', program), ...args], {
    cwd: directory,
    env: { DSTACK_CLOUD_CONFIG: stack.config },
    timeoutMs: 90_000,
  });
const inProject = (...args: string[]): Promise<Outcome> => run('dstack-cloud', '-C', project, ...args);

async function verify(...args: string[]): Promise<Report & { code: number | null }> {
  const { code, stdout, stderr } = await inProject('--json', 'verify', ...args);
  expect(stdout, stderr).not.toBe('');
  return { ...(JSON.parse(stdout) as Report), code };
}

const broken = ({ links }: Report): string[] =>
  links.filter(({ ok }) => ok === false).map(({ name }) => name);

/** Changes a file of the project, and gives back what makes it as it was. */
function change(name: string, edit: (text: string) => string): () => void {
  const path = join(project, name);
  const before = readFileSync(path, 'utf8');
  writeFileSync(path, edit(before));
  return () => writeFileSync(path, before);
}

/** A server of the prover's own, which answers every request with the same text. */
async function proverThatSays(text: string): Promise<string> {
  prover?.closeAllConnections();
  prover?.close();
  prover = createServer((_request, response) => response.end(text));
  await new Promise<void>((resolve) => prover!.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(prover.address() as AddressInfo).port}`;
}

test('prover-chooses-nothing: neither time, nor collateral, nor what it is compared with', async () => {
  expect((await run('dstack-cloud', 'new', 'shown')).code).toBe(0);
  const deployed = await inProject('--json', 'deploy');
  expect(deployed.code, deployed.stderr).toBe(0);
  const { urls, compose_hash: composeHash } = JSON.parse(deployed.stdout) as {
    urls: { agent: string };
    compose_hash: string;
  };

  const started = Math.floor(Date.now() / 1000);
  const honest = await verify();
  expect(broken(honest)).toEqual([]);
  expect(honest).toMatchObject({ code: 0, is_valid: true, verdict: 'accepted', verified_now: true });
  expect(honest.verified_at).toBeGreaterThanOrEqual(started);
  expect(honest.compared.map(({ name, ok }) => [name, ok])).toEqual([
    ['compose_hash', true],
    ['app_id', true],
    ['os_image_hash', true],
  ]);

  // The machine still is what was deployed, but not what the files here make now.
  const restoreCompose = change('docker-compose.yaml', (text) => `${text}# another\n`);
  const changed = await verify();
  expect([changed.code, changed.verdict, broken(changed)]).toEqual([1, 'not-accepted', ['Compose hash']]);
  expect(changed.links.find(({ name }) => name === 'Compose hash')?.why).toContain('docker_compose_file');
  expect(changed.links.find(({ name }) => name === 'Deployment')?.ok).toBe(true);
  restoreCompose();
  const restoreImage = change('app.json', (text) => text.replace(/dstack-sim-[0-9.]+/, 'dstack-sim-0.6.99'));
  expect(broken(await verify())).toEqual(['OS image hash']);
  restoreImage();
  const restoreState = change('state.json', (text) => text.replaceAll(composeHash, '00'.repeat(32)));
  const forgotten = await verify();
  expect([forgotten.code, forgotten.links.find(({ name }) => name === 'Deployment')?.ok]).toEqual([0, null]);
  restoreState();

  // A recording of good evidence, a bundle with a time and collateral, and a redirect to another agent.
  const recorded = await (await fetch(`${urls.agent}/attestation?nonce=${'11'.repeat(32)}`)).text();
  const replayed = await verify(await proverThatSays(recorded), '--compose-hash', composeHash);
  expect([replayed.code, replayed.verdict, broken(replayed)]).toEqual([1, 'refused', ['Hardware']]);
  writeFileSync(join(directory, 'evidence.json'), recorded);
  const config = JSON.parse(readFileSync(stack.config, 'utf8')) as {
    attestation: { root_ca: { tdx: string } };
    services: { pccs_url: string };
  };
  const root = ['--root', `tdx=${config.attestation.root_ca.tdx}`];
  const given = [...root, '--collateral', config.services.pccs_url];
  const bundled = await run('dstack-verifier', 'bundle', 'evidence.json', ...given, '--out', 'bundle.json');
  expect(bundled.code, bundled.stderr).toBe(0);
  const bundle = readFileSync(join(directory, 'bundle.json'), 'utf8');
  const served = await verify(await proverThatSays(bundle), '--compose-hash', composeHash);
  expect([served.code, served.verdict, served.verified_now]).toEqual([1, 'refused', true]);

  // In a file of the reader's own the same bundle is good, and marked once its time is not now.
  const old = JSON.stringify({ ...(JSON.parse(bundle) as object), time: started - 3600 });
  writeFileSync(join(directory, 'old.json'), old);
  const marked = await run('dstack-verifier', 'verify', 'old.json', ...root);
  expect(marked.stdout.split('\n')[0]).toMatch(/, NOT now/);

  // Nothing to compare with, and expectations that nobody understands.
  const bare = await verify(urls.agent);
  expect([bare.code, bare.verdict, bare.compared]).toEqual([0, 'nothing-compared', []]);
  expect(bare.verdict_text).toContain('but nothing was compared with it');
  for (const flags of [
    ['--compose-hash', ''],
    ['--compose-hash', composeHash.slice(2)],
    ['--expect', 'hash=00'],
  ]) {
    expect((await inProject('verify', urls.agent, ...flags)).code).toBe(2);
  }
  const unknown = await run(
    'dstack-verifier',
    'verify',
    'evidence.json',
    ...given,
    '--expect',
    'composehash=00',
  );
  expect([unknown.code, unknown.stdout]).toEqual([64, '']);
  expect((await inProject('--yes', 'remove')).code).toBe(0);
}, 180_000);
