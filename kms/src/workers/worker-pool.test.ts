import { connect, type Socket } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import type { ConfiguredFiles } from '../config/configured-files.ts';
import { KmsError } from '../errors.ts';
import { generateSharedKeys, issueRpcCertificate, keysFor } from '../key-directory/new-keys.ts';
import type { Kms } from '../kms.ts';
import { type Consumed, rateLimits } from '../limits/rate-limits.ts';
import { CurrentKeys } from '../policy/current-keys.ts';
import { createLog } from '../telemetry/log.ts';
import { createMetrics, readMetrics } from '../telemetry/metrics.ts';
import { Link, toWire } from './link.ts';
import type { PrimaryMethods, WorkerMethods, WorkerStart } from './protocol.ts';
import { portPair } from './test-ports.ts';
import { WorkerPool, type WorkerPoolOptions } from './worker-pool.ts';

const NOW = 1_795_000_000;
const keys = keysFor(generateSharedKeys(), 'localhost', NOW);
const certificate = await issueRpcCertificate(keys, NOW, undefined);
const other = await issueRpcCertificate(keys, NOW + 86_400, undefined);

const files: ConfiguredFiles = { rootCa: { tdx: 'AAAA' }, webhookCa: 'as it was' };

/** A worker that does as it is told, in this process. */
class FakeWorker {
  readonly link: Link<PrimaryMethods>;
  readonly told: [string, unknown][] = [];
  readonly pid = Math.floor(Math.random() * 1e6);
  readonly port;
  start: WorkerStart | undefined;
  isKilled = false;
  metrics: WorkerMethods['metrics'] = () => [];
  /** Says nothing and does nothing. */
  isStuck = false;
  readonly given: Socket[] = [];
  readonly #cut: () => void;
  readonly #exits: ((how: string) => void)[] = [];

  constructor() {
    const { ends, cut } = portPair();
    [this.port] = ends;
    this.#cut = cut;
    const note = (name: string) => (input: unknown) => void this.told.push([name, input]);
    this.link = new Link<PrimaryMethods>(ends[1], {
      taken: note('taken'),
      useCertificate: note('useCertificate'),
      forgetImages: note('forgetImages'),
      currentKeys: note('currentKeys'),
      metrics: (input) => (this.isStuck ? new Promise(() => undefined) : this.metrics(input)),
      stop: () => {
        if (!this.isStuck) this.exit('exit code 0');
      },
    });
  }

  onExit(listener: (how: string) => void): void {
    this.#exits.push(listener);
  }

  kill(): void {
    this.isKilled = true;
    this.exit('SIGKILL');
  }

  exit(how: string, isHeard = false): void {
    if (!isHeard) this.#cut();
    for (const listener of this.#exits) listener(how);
  }

  give(socket: Socket): void {
    this.given.push(socket);
    if (this.isStuck) return;
    // As across a channel.
    setImmediate(() => this.link.tell('took', null));
  }

  async serve(): Promise<void> {
    this.start = await this.link.call('start', null);
    await this.link.call('serving', null);
  }
}

const until = (condition: () => boolean) => vi.waitFor(() => expect(condition()).toBe(true), 5_000);

async function pool(begin: (worker: FakeWorker) => void, options: Partial<WorkerPoolOptions> = {}) {
  const workers: FakeWorker[] = [];
  const config = checkConfig({ rpc: { address: '127.0.0.1', port: 0, workers: 2 } }, {});
  const metrics = createMetrics({ version: '0', simulated: true, imageVerified: true });
  const limits = rateLimits(config, metrics);
  const service = new WorkerPool({
    count: 2,
    log: createLog('silent'),
    fork: () => {
      const worker = new FakeWorker();
      workers.push(worker);
      begin(worker);
      return worker;
    },
    ...options,
  });
  const currentKeys = new CurrentKeys();
  const kms = { config, keys, currentKeys, metrics, limits, service: service.service } as unknown as Kms;
  const starting = service.start(kms, { limits, files, certificate });
  return { service, starting, workers, metrics, limits };
}

// A worker that is ended while it starts hears no answer.
const serve = (worker: FakeWorker): void => void worker.serve().catch(() => undefined);
let running: { close: (graceMs?: number) => Promise<void> } | undefined;
afterEach(async () => {
  await running?.close(10);
  running = undefined;
});

const clients: Socket[] = [];
afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
});
function visit(port: number): void {
  const client = connect(port, '127.0.0.1');
  client.on('error', () => undefined);
  clients.push(client);
}

test('serves when all workers do; each has the keys', async () => {
  const { service, starting, workers } = await pool(() => undefined);
  serve(workers[0]!);
  await vi.waitFor(async () => expect((await service.service.workers()).serving).toBe(1));
  expect((await service.service.workers()).started).toBe(false);
  serve(workers[1]!);
  const main = await starting;
  running = main;
  expect(main.port).toBeGreaterThan(0);
  expect(workers.map(({ start }) => start?.number)).toEqual([1, 2]);
  expect(await service.service.workers()).toEqual({ configured: 2, serving: 2, started: true });
});

test('connections go to the workers in turn, and past one that has not taken the last', async () => {
  const { starting, workers } = await pool(serve);
  running = await starting;
  const [one, two] = workers as [FakeWorker, FakeWorker];
  const { port } = await starting;
  for (let count = 1; count <= 6; count++) {
    visit(port);
    await until(() => one.given.length + two.given.length === count);
  }
  expect([one.given.length, two.given.length]).toEqual([3, 3]);
  one.isStuck = true;
  for (let count = 7; count <= 12; count++) visit(port);
  await until(() => one.given.length + two.given.length === 12);
  expect(one.given).toHaveLength(4);
});

test('who comes while no worker serves is given to the first that does', async () => {
  let begun = 0;
  const { starting, workers } = await pool((worker) => {
    if (++begun <= 2) serve(worker);
  });
  const main = await starting;
  running = main;
  for (const worker of [...workers]) worker.exit('SIGSEGV');
  visit(main.port);
  await until(() => workers.length === 4);
  serve(workers[3]!);
  await until(() => workers[3]!.given.length === 1);
});

test('a worker whose last words arrive after its end gets no connection', async () => {
  const { service, starting, workers } = await pool(serve);
  const main = await starting;
  running = main;
  const [one, two] = workers as [FakeWorker, FakeWorker];
  one.exit('SIGKILL', true);
  await one.link.call('serving', null);
  expect((await service.service.workers()).serving).toBe(1);
  await until(() => workers.length === 3 && workers[2]!.start !== undefined);
  for (let count = 0; count < 4; count++) visit(main.port);
  await until(() => two.given.length + workers[2]!.given.length === 4);
  expect(one.given).toHaveLength(0);
});

test('after the close nobody is let in, and who was waiting is cut', async () => {
  const { starting, workers } = await pool(serve);
  const main = await starting;
  for (const worker of workers) worker.isStuck = true;
  for (let count = 0; count < 3; count++) visit(main.port);
  await until(() => workers.every(({ given }) => given.length === 1));
  // The third waits for a worker.
  await new Promise((resolve) => setTimeout(resolve, 50));
  await main.close(0);
  await until(() => clients.filter(({ closed }) => closed).length === 1);
  visit(main.port);
  await until(() => clients[3]!.closed);
  expect(workers.map(({ given }) => given.length)).toEqual([1, 1]);
});

test('a worker that cannot serve ends the start, with its reason', async () => {
  const { starting } = await pool((worker) => {
    void worker.link.call('failed', toWire(new KmsError('listen-failed', 'no such address')));
  });
  await expect(starting).rejects.toMatchObject({ code: 'listen-failed', message: 'no such address' });
});

test('a worker that ends is replaced; the others go on; the new one has the present state', async () => {
  const { service, starting, workers, metrics, limits } = await pool(serve);
  const main = await starting;
  running = main;
  const [one, two] = workers as [FakeWorker, FakeWorker];
  const taken: Consumed = ['open', '192.0.2.1', 3];
  one.link.tell('taken', [taken]);
  await until(() => two.told.some(([name]) => name === 'taken'));
  expect(one.told).not.toContainEqual(['taken', [taken]]);
  const said = ['11'.repeat(20), { keyEpoch: 1 }] as const;
  one.link.tell('currentKeys', [said]);
  await until(() => two.told.some(([name]) => name === 'currentKeys'));
  expect(one.told.some(([name]) => name === 'currentKeys')).toBe(false);
  main.useCertificate(other);
  service.imagesCleared();
  one.exit('SIGSEGV');
  expect((await service.service.workers()).serving).toBe(1);
  await until(() => workers.length === 3);
  await until(() => workers[2]!.start !== undefined);
  const start = workers[2]!.start!;
  expect(start.number).toBe(1);
  expect(Buffer.from(start.certificate, 'base64').equals(Buffer.from(other))).toBe(true);
  expect(start.currentKeys).toEqual([said]);
  expect(start.files).toEqual(files);
  expect(start.levels.map(([limit, name]) => [limit, name])).toEqual([['open', '192.0.2.1']]);
  await until(() => two.told.some(([name]) => name === 'forgetImages'));
  expect(two.told.map(([name]) => name)).toContain('useCertificate');
  expect((await metrics.workerRestarts.get()).values[0]?.value).toBe(1);
  expect(limits.levels()).toHaveLength(1);
});

test('what workers have counted stays in the sums when they end together', async () => {
  const { service, starting, workers } = await pool(serve, { watch: { everyMs: 10, silentMs: 1_000 } });
  running = await starting;
  let asked = 0;
  const counted = createMetrics({ version: '0', simulated: true, imageVerified: true });
  counted.rateLimited.inc(3);
  const json = await readMetrics(counted, false);
  for (const worker of workers) {
    worker.metrics = () => {
      asked += 1;
      return json;
    };
  }
  await until(() => asked >= 4);
  for (const worker of [...workers]) worker.exit('SIGSEGV');
  expect(await service.service.exposition()).toMatch(/^dstack_kms_rate_limited_total 6$/m);
});

test('workers that end again and again end the service', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  try {
    const { starting, workers } = await pool(serve);
    const main = await starting;
    running = main;
    const failed = expect(main.failed).rejects.toMatchObject({ code: 'worker-failed' });
    for (let round = 0; round < 6; round++) {
      const last = workers.findLast(({ start }) => start?.number === 1)!;
      last.exit('exit code 1');
      vi.advanceTimersByTime(5_000);
      for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    }
    await failed;
    expect(workers.filter(({ start }) => start?.number === 1)).toHaveLength(6);
  } finally {
    vi.useRealTimers();
  }
});

test('a worker that hangs is ended and replaced', async () => {
  const { starting, workers } = await pool(serve, { watch: { everyMs: 20, silentMs: 50 } });
  running = await starting;
  workers[1]!.isStuck = true;
  await until(() => workers[1]!.isKilled);
  await until(() => workers.length === 3);
  expect(workers[0]!.isKilled).toBe(false);
});

test('a worker that does not stop is ended', async () => {
  const { starting, workers } = await pool(serve);
  const main = await starting;
  workers[0]!.isStuck = true;
  await main.close(0);
  expect(workers.map(({ isKilled }) => isKilled)).toEqual([true, false]);
});
