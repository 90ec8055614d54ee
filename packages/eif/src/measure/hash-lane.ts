import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';

/** A hash that may work beside the thread that feeds it. */
export interface HashLane {
  /** Takes a copy; resolves once there is room for more. */
  update(bytes: Uint8Array): Promise<void>;
  digest(): Promise<Uint8Array>;
  /** Ends it, also without a digest. */
  close(): Promise<void>;
}

/** Below this a thread costs more than it saves, bytes. */
const WORTH_A_THREAD = 8 << 20;
/** Pieces that may wait for the thread. */
const MAX_WAITING = 8;

// Text, not a file: it has to work from the sources, from the build and inside one bundled file alike.
const PROGRAM = `
const { createHash } = require('node:crypto');
const { parentPort } = require('node:worker_threads');
const hash = createHash('sha384');
parentPort.on('message', (bytes) => {
  if (bytes === null) return parentPort.postMessage({ digest: new Uint8Array(hash.digest()) });
  hash.update(bytes);
  parentPort.postMessage({ used: bytes.buffer }, [bytes.buffer]);
});
`;

/** SHA-384 of about this many bytes: large ones in a thread, as PCR 0 and PCR 2 are two hashes over the same bytes. */
export function sha384Lane(size: number): HashLane {
  return size < WORTH_A_THREAD ? hashHere() : hashInThread();
}

function hashHere(): HashLane {
  const hash = createHash('sha384');
  return {
    update: async (bytes) => void hash.update(bytes),
    digest: async () => new Uint8Array(hash.digest()),
    close: async () => undefined,
  };
}

function hashInThread(): HashLane {
  const worker = new Worker(PROGRAM, { eval: true });
  let waiting = 0;
  let failure: Error | undefined;
  let digested: Uint8Array | undefined;
  // Used again: memory that only a collector gives back would grow with the image.
  const free: ArrayBuffer[] = [];
  let wake = (): void => undefined;
  worker.on('message', ({ digest, used }: { digest?: Uint8Array; used?: ArrayBuffer }) => {
    if (used !== undefined) free.push(used);
    if (digest === undefined) waiting -= 1;
    else digested = digest;
    wake();
  });
  worker.on('error', (error) => {
    failure = error;
    wake();
  });
  const until = async (isDone: () => boolean): Promise<void> => {
    while (!isDone()) {
      if (failure !== undefined) throw failure;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return {
    update: async (bytes) => {
      await until(() => waiting < MAX_WAITING);
      const at = free.findIndex(({ byteLength }) => byteLength >= bytes.length);
      const [buffer = new ArrayBuffer(bytes.length)] = at < 0 ? [] : free.splice(at, 1);
      const copy = new Uint8Array(buffer, 0, bytes.length);
      copy.set(bytes);
      waiting += 1;
      worker.postMessage(copy, [buffer]);
    },
    digest: async () => {
      worker.postMessage(null);
      await until(() => digested !== undefined);
      return digested!;
    },
    close: async () => void (await worker.terminate()),
  };
}
