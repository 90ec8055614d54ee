import type { Listener } from '../server/listen.ts';
import type { RunningKms, StartOptions } from '../start-kms.ts';
import type { Lab } from './lab.ts';

/** A KMS in onboard mode. */
export type Receiver = {
  /** Of the onboarding listener. */
  readonly port: number;
  /** Settles when it serves, or cannot. */
  readonly serving: Promise<RunningKms>;
  readonly stop: AbortController;
  readonly directory: string;
};

/** Starts a KMS without keys in a directory and waits for its onboarding listener. */
export async function startReceiver(
  lab: Lab,
  directory: string,
  core: Record<string, unknown> = {},
  options: Partial<StartOptions> = {},
): Promise<Receiver> {
  const stop = new AbortController();
  let up: (listener: Listener) => void = () => undefined;
  const listening = new Promise<Listener>((resolve) => {
    up = resolve;
  });
  const serving = lab.start({
    directory,
    keys: false,
    core,
    options: { ...options, signal: stop.signal, onOnboarding: (listener) => up(listener) },
  });
  serving.catch(() => undefined);
  const { port } = await Promise.race([
    listening,
    // An error before the listener is up would otherwise never be seen.
    serving.then(() => Promise.reject(new Error('the KMS serves without onboarding'))),
  ]);
  return { port, serving, stop, directory };
}
