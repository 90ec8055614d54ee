/** The metrics of a watcher whose chain does not answer: what they say, and strangers at them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { configSchema } from '../config/schema.ts';
import { attackListener, neverEndingHeaders, REFUSALS } from '../test/strangers.ts';
import { watchGovernance } from '../watch.ts';

let folder: string;
let stop: AbortController;
let running: Promise<unknown>;
let port: number;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'watch-hostile-'));
  stop = new AbortController();
  const url = await new Promise<string>((resolve, reject) => {
    running = watchGovernance({
      config: configSchema.parse({
        ...{ rpc_urls: ['http://127.0.0.1:1'], kms_contract: `0x${'aa'.repeat(20)}`, chain_id: 1 },
        ...{ state_path: join(folder, 'state'), metrics: { port: 0 } },
      }),
      onMessage: () => undefined,
      onNote: (note) => {
        if (note.type === 'started') resolve(note.metrics ?? '');
      },
      signal: stop.signal,
    });
    running.catch(reject);
  });
  port = Number(new URL(url).port);
});
afterEach(async () => {
  stop.abort();
  await running;
  rmSync(folder, { recursive: true, force: true });
});

test('strangers at the metrics get refusals, and Prometheus is served meanwhile', async () => {
  const { statuses, honest, silent } = await attackListener(port, '/metrics');
  expect(statuses).toEqual(REFUSALS);
  expect(new Set(honest)).toEqual(new Set(['200']));
  // One network may have 16 connections that have said nothing.
  expect(silent).toBeLessThanOrEqual(16);
});

test('who never ends the headers is let go', async () => {
  expect(await neverEndingHeaders(port)).toBeLessThan(25_000);
}, 60_000);

test('what is not known has no series: 0 would be an alarm, or a lag of nothing', async () => {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  expect(text).toMatch(/^dstack_governance_chain_readable 0$/m);
  for (const name of [
    ...['dstack_governance_safe_service_readable', 'dstack_governance_block'],
    ...['dstack_onchain_sync_lag_seconds'],
  ]) {
    expect(text).toContain(`# TYPE ${name} gauge`);
    expect(text).not.toMatch(new RegExp(`^${name} `, 'm'));
  }
});
