import { connect, type Socket } from 'node:net';
import type { Instance } from '../routes/instance.ts';
import type { InstanceHealth } from '../routes/instance-health.ts';

/** A connection to an instance; `end` says that it is over. */
export type Connected = { readonly socket: Socket; readonly instance: Instance; readonly end: () => void };

export type ConnectOptions = {
  readonly port: number;
  readonly health: InstanceHealth;
  /** For all attempts together. */
  readonly timeoutMs: number;
  /** How long the next candidate waits for the one before it, unless that fails earlier. */
  readonly staggerMs?: number;
  readonly signal?: AbortSignal;
};

const STAGGER_MS = 50;

/**
 * Connects to the first candidate that answers, as RFC 8305 does with addresses: the next one is tried when the one
 * before it fails or is slow.
 * @returns undefined when none answers in time
 */
export async function connectFirst(
  candidates: readonly Instance[],
  options: ConnectOptions,
): Promise<Connected | undefined> {
  const { port, health, timeoutMs, staggerMs = STAGGER_MS, signal } = options;
  const attempts = new Set<Socket>();
  return await new Promise((resolve) => {
    let [next, isOver] = [0, false];
    let stagger: NodeJS.Timeout | undefined;
    const finish = (result: Connected | undefined): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(stagger);
      clearTimeout(deadline);
      signal?.removeEventListener('abort', abort);
      for (const socket of attempts) if (socket !== result?.socket) socket.destroy();
      resolve(result);
    };
    const abort = (): void => finish(undefined);
    const deadline = setTimeout(() => {
      // Who was still being tried did not answer.
      for (const { instance } of trying.values()) health.failed(instance.instanceId);
      finish(undefined);
    }, timeoutMs);
    const trying = new Map<Socket, { instance: Instance }>();
    const tryNext = (): void => {
      clearTimeout(stagger);
      const instance = candidates[next++];
      if (isOver || instance === undefined) return;
      const end = health.begin(instance.instanceId);
      const socket = connect({ host: instance.ip, port, allowHalfOpen: true, noDelay: true });
      attempts.add(socket);
      trying.set(socket, { instance });
      socket.once('close', end);
      socket.once('error', () => {
        trying.delete(socket);
        if (isOver) return;
        health.failed(instance.instanceId);
        attempts.delete(socket);
        if (attempts.size === 0 && next >= candidates.length) finish(undefined);
        else tryNext();
      });
      socket.once('connect', () => {
        health.succeeded(instance.instanceId);
        finish({ socket, instance, end });
      });
      if (next < candidates.length) stagger = setTimeout(tryNext, staggerMs);
    };
    if (candidates.length === 0 || signal?.aborted) finish(undefined);
    else {
      signal?.addEventListener('abort', abort, { once: true });
      tryNext();
    }
  });
}
