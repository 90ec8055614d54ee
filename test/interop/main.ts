/**
 * `npm run interop [-- CLIENT…] [--newest] [--json]`: the client libraries that exist, unchanged, against our guest
 * agent, each in the versions that its registry has. They are installed into ~/.cache/dstack-cloud/interop, or the
 * folder that DSTACK_INTEROP_CACHE names, never into this repository.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { isThere, surviveClosedOutput } from '@dstack-cloud/files';
import { build } from '@dstack-cloud/scripts/build';
import { fixtureJson, fixturePath } from '@dstack-cloud/test/fixtures';
import { type Client, type TestEnvironment, Unavailable } from './client.ts';
import { go } from './go/client.ts';
import { npm } from './npm/client.ts';
import { type Counts, count, type Outcome } from './outcome.ts';
import { pypi } from './pypi/client.ts';
import { rust } from './rust/client.ts';
import { startAgent } from './start-agent.ts';

const CLIENTS: Readonly<Record<string, Client>> = { npm, pypi, go, rust };
const USAGE = `Usage: npm run interop [-- CLIENT…] [--newest] [--json]

  --newest  the newest version of each client only
  --json    counts: {"npm":{"passed":…,"failed":…,"skipped":…},…}

Clients: ${Object.keys(CLIENTS).join(', ')}`;

surviveClosedOutput();
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    newest: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const unknown = positionals.filter((name) => !Object.hasOwn(CLIENTS, name));
if (values.help || unknown.length > 0) {
  if (unknown.length > 0) console.error(`No such client: ${unknown.join(', ')}`);
  console.log(USAGE);
  process.exitCode = unknown.length > 0 ? 2 : 0;
} else {
  await run(positionals.length > 0 ? positionals : Object.keys(CLIENTS));
}

async function run(names: readonly string[]): Promise<void> {
  const vectorsFile = 'simulator/expected.json';
  if (!isThere(fixturePath(vectorsFile))) {
    throw new Error(`No fixtures at ${fixturePath(vectorsFile)}; set DSTACK_FIXTURES`);
  }
  await build();
  const directory = await mkdtemp(join(tmpdir(), 'dstack-vectors-'));
  const agent = await startAgent();
  const totals: Record<string, Counts & { versions: Record<string, Counts> }> = {};
  try {
    const vectors = join(directory, 'vectors.json');
    const accounts: unknown = JSON.parse(await readFile(new URL('./accounts.json', import.meta.url), 'utf8'));
    await writeFile(vectors, JSON.stringify({ ...fixtureJson<object>(vectorsFile), accounts }));
    const env = {
      DSTACK_SIMULATOR_ENDPOINT: agent.dstackSocket,
      TAPPD_SIMULATOR_ENDPOINT: agent.tappdSocket,
      INTEROP_VECTORS: vectors,
    };
    for (const name of names) {
      const client = CLIENTS[name]!;
      const total = { passed: 0, failed: 0, skipped: 0, versions: {} as Record<string, Counts> };
      for (const version of values.newest ? client.versions.slice(0, 1) : client.versions) {
        const outcomes = await outcomesOf(client, version, env);
        const counts = count(outcomes);
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.skipped += counts.skipped;
        total.versions[version] = counts;
        if (!values.json) print(name, version, outcomes);
      }
      totals[name] = total;
    }
  } finally {
    await agent.stop();
    await rm(directory, { recursive: true, force: true });
  }
  if (values.json) console.log(JSON.stringify(totals, null, 2));
  const all = Object.values(totals);
  const sum = (key: keyof Counts): number => all.reduce((value, counts) => value + counts[key], 0);
  if (!values.json)
    console.log(`\n${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
  process.exitCode = sum('failed') === 0 ? 0 : 1;
}

async function outcomesOf(client: Client, version: string, env: TestEnvironment): Promise<Outcome[]> {
  const cache = process.env['DSTACK_INTEROP_CACHE'] || join(homedir(), '.cache/dstack-cloud/interop');
  try {
    const outcomes = await (await client.install(version, cache)).run(env);
    return outcomes.length > 0 ? outcomes : [{ name: 'the runner reported no test', state: 'failed' }];
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return [{ name: 'all', state: 'skipped', reason: error.message }];
  }
}

function print(name: string, version: string, outcomes: readonly Outcome[]): void {
  const { passed, failed, skipped } = count(outcomes);
  console.log(`${name} ${version}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  for (const outcome of outcomes) {
    if (outcome.state === 'failed') console.log(`  failed: ${outcome.name}`);
  }
  const reasons = new Map<string, number>();
  for (const { reason } of outcomes)
    if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  for (const [reason, times] of reasons) console.log(`  skipped ${times}: ${reason}`);
}
