/** The verifier's service on one core: TDX attestations with their OS image, collateral known. */
import { toHex } from '@dstack-cloud/encoding';
import { fixture } from '../support/fixtures.ts';
import type { LoadPlan } from './load/plan.ts';
import { load, startServer } from './load/processes.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 3;

export async function run(): Promise<Result[]> {
  const attestation = toHex(fixture('mock-evidence/set-a/evidence/tdx-good.v0.bin'));
  const body = JSON.stringify({ attestation });
  const server = await startServer('verifier-service.ts', {});
  try {
    const url = `http://127.0.0.1:${server.port}/verify`;
    const answer = (await (await fetch(url, { method: 'POST', body })).json()) as { is_valid: boolean };
    if (!answer.is_valid) throw new Error('The service refuses good evidence');
    const plan: LoadPlan = {
      url,
      identities: [],
      body,
      connections: 'kept',
      concurrency: 8,
      warmUpMs: 2_000,
      durationMs: 4_000,
    };
    const rates: number[] = [];
    let n = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const report = await load(plan);
      if (report.failed > 0) throw new Error(`${report.failed} failed: ${report.failure}`);
      rates.push(report.perSecond);
      n += report.completed;
    }
    return [{ suite: 'verifier', name: 'service-tdx-per-s', value: median(rates), unit: '1/s', n }];
  } finally {
    server.stop();
  }
}
