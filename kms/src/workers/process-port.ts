import type { Serializable } from 'node:child_process';
import type { Worker } from 'node:cluster';
import { Socket } from 'node:net';
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

/** Beside what a link says: the message that a connection comes with. */
const CONNECTION = 'connection';

/**
 * Gives connections to a worker, one at a time. Node keeps each open here until it has arrived, also when the worker
 * ends before that: then it is closed, so that its client knows at once, and does not wait until it gives up.
 */
export function connectionGiver({ process }: Worker): (socket: Socket) => void {
  let onItsWay: { close(): void } | null | undefined;
  // One that has arrived is closed here already; closing it again does nothing.
  process.once('exit', () => onItsWay?.close());
  return (socket) => {
    onItsWay = (socket as { _handle?: typeof onItsWay })._handle;
    process.send({ [CONNECTION]: true }, socket, {}, (error) => {
      if (error !== null) onItsWay?.close();
    });
  };
}

/** Told of each connection that the primary gives; of none when its client has gone meanwhile. */
export function onConnection(listener: (socket: Socket | undefined) => void): void {
  process.on('message', (message: { readonly [CONNECTION]?: true }, handle: unknown) => {
    if (message[CONNECTION] === true) listener(handle instanceof Socket ? handle : undefined);
  });
}
