/** One key service of the model: its machine, its process if it runs, its audit log, and what was read of that. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { verifyLog } from '@dstack-cloud/audit-log';
import { toHex } from '@dstack-cloud/encoding';
import { expect } from 'vitest';
import { auditHead, type KmsHost } from '../kms-lab.ts';
import type { KmsProcess } from '../kms-process.ts';
import type { Workload } from '../simulated-workload.ts';
import type { Epoch } from './model.ts';

export type AuditLine = {
  readonly seq: number;
  readonly event: string;
  readonly decision: string;
  readonly app_id: string;
  readonly compose_hash: string;
  readonly block_number?: number;
  readonly key_epoch: number;
};

export class ModelService {
  readonly host: KmsHost;
  /** Aggregated measurement, as it is registered. */
  readonly measurement: `0x${string}`;
  /** For how long it may go on with a head that it has read. */
  readonly reuseMs: number;
  #process: KmsProcess | undefined;
  #seen = 0;
  #heads: Awaited<ReturnType<typeof auditHead>>[] = [];

  constructor(host: KmsHost, measurement: Uint8Array, reuseMs: number) {
    this.host = host;
    this.measurement = `0x${toHex(measurement)}`;
    this.reuseMs = reuseMs;
  }

  get running(): KmsProcess | undefined {
    const process = this.#process?.process;
    return process?.exitCode === null && process.signalCode === null ? this.#process : undefined;
  }

  get hasKeys(): boolean {
    return existsSync(join(this.host.certDir, 'root-k256.key'));
  }

  /** Starts it, if it does not run and has keys. */
  async serve(): Promise<void> {
    if (this.running === undefined) this.#process = await this.host.serve();
  }

  /** Takes a process that is about to serve. */
  async adopt(process: KmsProcess): Promise<KmsProcess> {
    await process.until('dstack-kms started');
    this.#process = process;
    return process;
  }

  /** Kills it while it starts, after so many milliseconds. */
  async crashStarting(afterMs: number): Promise<void> {
    const starting = this.host.run();
    await new Promise((resolve) => setTimeout(resolve, afterMs));
    await starting.stop('SIGKILL');
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const code = await this.running?.stop(signal);
    if (signal === 'SIGTERM' && code !== undefined) expect(code).toBe(0);
  }

  /** Forgets everything: an empty machine with the same measurement. */
  async wipe(): Promise<void> {
    await this.stop('SIGKILL');
    rmSync(this.host.certDir, { recursive: true, force: true });
    this.#seen = 0;
    this.#heads = [];
  }

  /** The records since the last call. */
  news(): AuditLine[] {
    const lines = this.#lines();
    const found = lines.slice(this.#seen);
    found.forEach(({ seq }, index) => {
      expect(seq).toBe(this.#seen + index);
    });
    this.#seen = lines.length;
    return found;
  }

  /** Keeps the signed head of now: no later log may contradict it. */
  async keepHead(): Promise<void> {
    if (this.running !== undefined) this.#heads.push(await auditHead(this.running));
  }

  /** Stops it and checks its log against all heads it ever signed. */
  async expectSoundLog(): Promise<void> {
    await this.keepHead();
    await this.stop();
    const [head] = this.#heads;
    if (head === undefined) return;
    const signed = this.#heads.map((one) => one.signed);
    const verdict = await verifyLog(join(this.host.certDir, 'audit'), head.publicKey, signed);
    expect(verdict.records).toBe(this.#lines().length);
  }

  /** Takes effect at the next start; false when nothing changes. */
  configureEpochs(apps: readonly { readonly workload: Workload }[], epochs: readonly Epoch[]): boolean {
    const path = join(this.host.directory, 'conf.json');
    const before = readFileSync(path, 'utf8');
    const config = JSON.parse(before) as { core: Record<string, unknown> };
    config.core['key_epochs'] = Object.fromEntries(
      apps.map(({ workload }, index) => {
        const { epoch, keepsPrevious } = epochs[index]!;
        return [toHex(workload.appId), { epoch, ...(keepsPrevious ? { min: Math.max(0, epoch - 1) } : {}) }];
      }),
    );
    const after = JSON.stringify(config);
    if (after === before) return false;
    writeFileSync(path, after, { mode: 0o600 });
    return true;
  }

  /** The whole lines of all segments. */
  #lines(): AuditLine[] {
    const directory = join(this.host.certDir, 'audit');
    if (!existsSync(directory)) return [];
    return readdirSync(directory)
      .filter((name) => name.endsWith('.log'))
      .sort()
      .flatMap((name) => readFileSync(join(directory, name), 'utf8').split('\n').slice(0, -1))
      .map((line) => JSON.parse(line) as AuditLine);
  }
}
