import type { AuditEntry } from '@dstack-cloud/audit-log';
import type { CertifiedHead } from '../audit/audit-log.ts';
import type { ConfiguredFiles } from '../config/configured-files.ts';
import type { KmsConfig } from '../config/kms-config.ts';
import type { CachedKeys } from '../image/os-images.ts';
import type { ClusterService } from '../kms.ts';
import type { BucketLevel, Consumed } from '../limits/rate-limits.ts';
import type { KeyNews } from '../policy/current-keys.ts';
import type { MetricJson } from '../telemetry/metrics.ts';
import type { WireError } from './link.ts';

/** What a worker begins with. It crosses the channel only: no secret is in an argument or in the environment. */
export type WorkerStart = {
  /** From 1 up; a worker that replaces another has its number. */
  readonly number: number;
  readonly config: KmsConfig;
  readonly files: ConfiguredFiles;
  /** See `writeKeys`. */
  readonly keys: string;
  /** RPC certificate, DER in base64. */
  readonly certificate: string;
  /** What was taken of the rate limits so far. */
  readonly levels: readonly BucketLevel[];
  /** What the policy source last said of applications' keys. */
  readonly currentKeys: readonly KeyNews[];
};

/** What the primary offers its workers. */
export type PrimaryMethods = {
  /** Waits until there is something to serve. */
  start(input: null): WorkerStart;
  /** The worker may be given connections. */
  serving(input: null): null;
  /** It has the connection that it was given. */
  took(input: null): void;
  /** The worker cannot serve and ends. */
  failed(input: WireError): null;
  /** Answers when each record is on disk, or says why it is not. */
  record(entries: readonly AuditEntry[]): (WireError | null)[];
  head(input: null): CertifiedHead;
  inclusionProof(input: readonly [seq: number, size: number]): string[];
  consistencyProof(input: readonly [first: number, second: number]): string[];
  records(input: readonly [from: number, limit: number]): string[];
  taken(taken: readonly Consumed[]): void;
  currentKeys(news: readonly KeyNews[]): void;
  obtainImage(hash: string): null;
  clearImages(keys: CachedKeys): null;
  exposition(input: null): string;
  workers(input: null): Awaited<ReturnType<ClusterService['workers']>>;
};

/** What a worker offers the primary. */
export type WorkerMethods = {
  metrics(input: { readonly isScrape: boolean }): MetricJson[];
  /** From now on the limits count this too. */
  taken(taken: readonly Consumed[]): void;
  currentKeys(news: readonly KeyNews[]): void;
  useCertificate(der: string): void;
  forgetImages(input: null): void;
  /** Take no more connections, end what was begun within so many milliseconds, then end. */
  stop(input: { readonly graceMs: number }): void;
};
