/** What the load process is told, and what it answers. Both cross a process boundary as one JSON document. */

/** A TLS client: PEM texts. */
export type LoadIdentity = { cert: string; key: string };

export type LoadPlan = {
  /** `https://127.0.0.1:PORT/prpc/GetAppKey?json`; `http:` for a service without TLS. */
  url: string;
  /** Unix socket to reach an `http:` URL by. */
  socketPath?: string;
  /** Address to come from, where the system lets one choose. */
  localAddress?: string;
  /** Used in turn; empty for anonymous requests. */
  identities: LoadIdentity[];
  /** JSON body of each POST; `{n}` in it becomes another number each time. */
  body: string;
  /** `fresh`: a new TLS connection for each request; `kept`: one for each identity, opened before and used in turn. */
  connections: 'fresh' | 'kept';
  /** How many requests are under way at once. */
  concurrency: number;
  /** Closed loop unless a rate (requests a second) is given; then latency counts from the planned time. */
  rate?: number;
  warmUpMs: number;
  durationMs: number;
  /** Instead of all that: each identity asks once, and the answers are reported. */
  collect?: boolean;
};

export type LoadReport = {
  /** Within the time that is measured. */
  completed: number;
  /** All that were answered, also before. */
  answered: number;
  failed: number;
  /** First failure, for the person who reads the bench. */
  failure?: string;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Bytes of the last answer's body. */
  answerBytes: number;
  /** With `collect`: the answer to each identity. */
  bodies?: string[];
};
