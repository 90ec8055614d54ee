import { isAlive, type ProcessIdentity } from '@dstack-cloud/files';

const POLL_MS = 1_000;

/** A signal that fires when the owner of a machine is gone; never for a machine without owner. */
export function onOwnerGone(owner: ProcessIdentity | null): AbortSignal {
  const controller = new AbortController();
  if (owner === null) return controller.signal;
  const timer = setInterval(() => {
    if (isAlive(owner)) return;
    clearInterval(timer);
    controller.abort(new Error(`Owner ${owner.pid} is gone`));
  }, POLL_MS);
  timer.unref();
  return controller.signal;
}
