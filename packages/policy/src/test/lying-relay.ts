import { answerJson, startFakeServer } from './fake-server.ts';

/** One answered call, before it goes to the asker. */
export type RelayedCall = {
  readonly method: string;
  readonly params: readonly unknown[];
  /** A copy that may be changed. */
  readonly result: unknown;
};

/** The result of `eth_getProof`. */
export type Proof = {
  accountProof: string[];
  storageProof: { key: string; value: string; proof: string[] }[];
};

export const isProof = ({ method }: RelayedCall): boolean => method === 'eth_getProof';

/** A lie may be that the node cannot answer. */
export class Refusal {
  readonly error: { readonly code: number; readonly message: string };

  constructor(code: number) {
    this.error = { code, message: 'refused' };
  }
}

/** An endpoint that passes calls on to a node and answers what it likes. */
export type LyingRelay = {
  readonly url: string;
  /** What is answered instead of the result, or a Refusal; undefined for the result itself. */
  lie: ((call: RelayedCall) => unknown) | undefined;
  /** The calls since the last look. */
  take(): RelayedCall[];
  close(): Promise<void>;
};

type Answer = { id: number; result?: unknown; error?: unknown };
type Call = { id: number; method: string; params: unknown[] };

export async function startLyingRelay(nodeUrl: string): Promise<LyingRelay> {
  let seen: RelayedCall[] = [];
  const server = await startFakeServer(({ body }, response) => {
    void (async () => {
      const answer = await fetch(nodeUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
      });
      const calls = [JSON.parse(body) as Call | Call[]].flat();
      const read = (await answer.json()) as Answer | Answer[];
      const answers = [read].flat().map((one) => {
        const { method, params } = calls.find(({ id }) => id === one.id)!;
        const call = { method, params, result: one.result };
        seen.push(structuredClone(call));
        const lie = one.error === undefined ? relay.lie?.(call) : undefined;
        if (lie instanceof Refusal) return { jsonrpc: '2.0', id: one.id, error: lie.error };
        return lie === undefined ? one : { ...one, result: lie };
      });
      answerJson(response, Array.isArray(read) ? answers : answers[0]);
    })().catch(() => response.destroy());
  });
  const relay: LyingRelay = {
    url: server.url,
    lie: undefined,
    take() {
      const taken = seen;
      seen = [];
      return taken;
    },
    close: () => server.close(),
  };
  return relay;
}
