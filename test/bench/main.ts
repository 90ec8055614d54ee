/**
 * `npm run bench [-- SUITE…] [--json]`: figures of this machine, each beside a reference measured in the same
 * run. `npm run bench -- kms --against COMMIT`: key release beside that of another commit. Benchmarks are never tests:
 * machines differ and are noisy.
 */
import { cpus, totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { runAgainst } from './kms-against.ts';
import { isMet, type Result } from './result.ts';

const suites: Record<string, () => Promise<{ run(): Promise<Result[]> }>> = {
  attestation: () => import('./attestation.ts'),
  cli: () => import('./cli.ts'),
  eif: () => import('./eif.ts'),
  gateway: () => import('./gateway.ts'),
  gcp: () => import('./gcp.ts'),
  kms: () => import('./kms.ts'),
  'kms-soak': () => import('./kms-soak.ts'),
  guest: () => import('./guest.ts'),
  demo: () => import('./demo.ts'),
  util: () => import('./util.ts'),
  verifier: () => import('./verifier.ts'),
  vm: () => import('./vm.ts'),
};

/** What takes ten minutes, or boots whole machines, runs only when it is asked for by name. */
const BY_NAME_ONLY = ['kms-soak', 'vm'];

surviveClosedOutput();
const USAGE = `Usage: npm run bench [-- SUITE…] [--json]
       npm run bench -- kms --against COMMIT [--json]

Suites: ${Object.keys(suites).join(', ')}`;

const {
  values: { json, help, against },
  positionals: names,
} = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
    against: { type: 'string' },
  },
});
const unknown = names.filter((name) => !Object.hasOwn(suites, name));
const isAmiss = unknown.length > 0 || (against !== undefined && names.join() !== 'kms');

if (help || isAmiss) {
  if (unknown.length > 0) console.error(`No such suite: ${unknown.join(', ')}`);
  else if (isAmiss) console.error('--against compares the suite kms, and no other');
  console.log(USAGE);
  process.exitCode = isAmiss ? 2 : 0;
} else {
  const results: Result[] = [];
  if (against !== undefined) results.push(...(await runAgainst(against)));
  for (const [name, load] of against === undefined ? Object.entries(suites) : []) {
    if (names.length > 0 ? !names.includes(name) : BY_NAME_ONLY.includes(name)) continue;
    if (!json) console.error(`Running ${name} ...`);
    results.push(...(await (await load()).run()));
  }
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memory_mb: Math.round(totalmem() / 2 ** 20),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  };
  const judged = results.map((result) =>
    result.goal === undefined ? result : { ...result, met: isMet(result) },
  );
  if (json) console.log(JSON.stringify({ machine, results: judged }, null, 2));
  else printTable(results);
}

function printTable(results: readonly Result[]): void {
  for (const result of results) {
    const { suite, name, value, unit, n, peer } = result;
    const reference = peer
      ? `  ${peer.name}: ${round(peer.value)} (${(value / peer.value).toFixed(2)}x)`
      : '';
    console.log(
      `${`${suite}/${name}`.padEnd(44)}${round(value).padStart(12)} ${unit.padEnd(5)} n=${n}${reference}${goalOf(result)}`,
    );
  }
}

function goalOf(result: Result): string {
  const { goal } = result;
  if (goal === undefined) return '';
  const wanted =
    goal.ratio !== undefined
      ? `at least ${goal.ratio}x`
      : goal.atLeast !== undefined
        ? `at least ${round(goal.atLeast)}`
        : `at most ${round(goal.atMost ?? Number.NaN)}`;
  return `  goal: ${wanted}, ${isMet(result) === true ? 'met' : 'MISSED'}`;
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
