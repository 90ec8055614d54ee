import type { Serializable } from 'node:child_process';
import type { Worker } from 'node:cluster';
import type { Port } from './link.ts';

/** The channel to a worker. */
export function workerPort(worker: Worker): Port {
  return {
    // Whether it arrived is known by the answer; that the channel is closed, by its event.
    send: (message) => worker.process.send(message as Serializable, undefined, {}, () => undefined),
    onMessage: (listener) => worker.process.on('message', listener),
    // Not `disconnect`: Node does not say it of a worker that ends while a connection is on its way to it.
    onClose: (listener) => worker.process.once('exit', () => listener()),
  };
}

/** The channel to the primary. */
export function primaryPort(): Port {
  return {
    send: (message) => process.send?.(message, undefined, {}, () => undefined),
    onMessage: (listener) => process.on('message', listener),
    onClose: (listener) => process.once('disconnect', listener),
  };
}
