/** Many workloads that ask a key service at the same time, each known by its own instance id. */
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toHex } from '@dstack-cloud/encoding';
import { expect } from 'vitest';
import { getAppKey, type KmsHost, type KmsLab, labWorkload, tempCa } from './kms-lab.ts';
import type { KmsProcess } from './kms-process.ts';
import { clientIdentity } from './simulated-workload.ts';

export type Client = { readonly instanceId: string; readonly cert: string; readonly key: string };

/** What became of a request: keys, a refusal, or a connection that broke. */
export type Outcome = { readonly client: Client; readonly status: number | 'broken'; readonly atMs: number };

export async function makeClients(lab: KmsLab, kms: KmsProcess, count: number): Promise<Client[]> {
  const ca = await tempCa(kms);
  const clients: Client[] = [];
  for (let index = 0; index < count; index++) {
    const instanceId = new Uint8Array(randomBytes(20));
    const workload = labWorkload('load', { instanceId });
    const identity = await clientIdentity({ platform: lab.hardware, workload, ...ca });
    clients.push({ instanceId: toHex(instanceId), ...identity });
  }
  return clients;
}

/**
 * Each client asks once, on a connection of its own, so many at a time.
 * @param onAnswer told how many have been answered
 */
export async function askAll(
  kms: { readonly url: string },
  clients: readonly Client[],
  onAnswer: (answered: number) => void = () => undefined,
  concurrency = 16,
): Promise<Outcome[]> {
  const waiting = [...clients];
  const outcomes: Outcome[] = [];
  // Read once: the address stands in the log of a process that may be killed meanwhile.
  const { url } = kms;
  const next = async (): Promise<void> => {
    for (let client = waiting.shift(); client !== undefined; client = waiting.shift()) {
      const answer = await getAppKey({ url } as KmsProcess, client).catch(() => undefined);
      outcomes.push({ client, status: answer?.status ?? 'broken', atMs: performance.now() });
      if (answer !== undefined) onAnswer(outcomes.length);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, next));
  return outcomes;
}

/** How many records of a release each instance has in the audit log. */
export function releasesIn({ certDir }: KmsHost): Map<string, number> {
  const directory = join(certDir, 'audit');
  const counts = new Map<string, number>();
  if (!existsSync(directory)) return counts;
  for (const name of readdirSync(directory).filter((file) => file.endsWith('.log'))) {
    // The last line may be half written.
    for (const line of readFileSync(join(directory, name), 'utf8').split('\n').slice(0, -1)) {
      const record = JSON.parse(line) as { instance_id: string; decision: string };
      if (record.decision !== 'allowed') continue;
      counts.set(record.instance_id, (counts.get(record.instance_id) ?? 0) + 1);
    }
  }
  return counts;
}

/** Every client that got keys has one record; one whose connection broke may have one, no more. */
export function expectRecorded(host: KmsHost, outcomes: readonly Outcome[]): void {
  const releases = releasesIn(host);
  for (const { client, status } of outcomes) {
    const records = releases.get(client.instanceId) ?? 0;
    if (status === 200) expect(records, client.instanceId).toBe(1);
    else expect(records, client.instanceId).toBeLessThanOrEqual(status === 'broken' ? 1 : 0);
  }
}

/** Process ids of the workers by number, the latest of each. */
export function workersOf(kms: KmsProcess): Map<number, number> {
  const serving = kms.lines().filter(({ msg }) => msg === 'worker serves');
  return new Map(serving.map(({ worker, pid }) => [Number(worker), Number(pid)]));
}

/** How many calls each worker answered with a status. */
export function callsByWorker(kms: KmsProcess, status: number): number[] {
  const calls = kms.lines().filter((line) => line['method'] === 'GetAppKey' && line['status'] === status);
  return [1, 2].map((number) => calls.filter(({ worker }) => worker === number).length);
}

/** The value of a series in the text of `/metrics`. */
export function countIn(text: string, series: string): number {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1) ?? 0);
}
