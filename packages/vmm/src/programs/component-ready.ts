import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmmError } from '../errors.ts';
import type { Component } from './component.ts';

const READY_TIMEOUT_MS = 20_000;
const POLL_MS = 15;

/** Waits until a program of a machine is ready, or `stop` fires. @throws VmmError `boot_failed`, `timeout` */
export async function untilReady(
  component: Component,
  isReady: () => boolean | Promise<boolean>,
  stop: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!stop.aborted) {
    if (await isReady()) return;
    if (!component.running) throw componentFailed(component, 'ended before it was ready');
    if (Date.now() > deadline) throw new VmmError('timeout', `${component.name} did not get ready in time`);
    await sleep(POLL_MS);
  }
}

/** The same for one that listens on a Unix socket. */
export async function untilListening(component: Component, path: string, stop: AbortSignal): Promise<void> {
  await untilReady(component, () => canConnect(path), stop);
}

/** What happened to a program, with the last lines that it printed. */
export function componentFailed(component: Component, what: string): VmmError {
  const last = component.tail.slice(-8).join('\n');
  return new VmmError('boot_failed', `${component.name} ${what}${last === '' ? '' : `:\n${last}`}`);
}

async function canConnect(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
