import { notifyServiceManager } from '@dstack-cloud/attestation/attester';
import { utf8 } from '@dstack-cloud/encoding';
import { httpTransport } from '@dstack-cloud/prpc';
import type { Logger } from './log.ts';

const MIN_PERIOD_MS = 1000;

/**
 * Tells the service manager that the agent serves, and again and again that it answers; when it does not, the service
 * manager starts the agent again. What is asked is the applications' socket: every machine has it, and no stranger can
 * keep it busy, as the public listener.
 */
export async function watchOver(
  socketPath: string,
  log: Logger,
  env: NodeJS.ProcessEnv = process.env,
): Promise<() => void> {
  await notifyServiceManager('READY=1', env['NOTIFY_SOCKET']);
  const period = Number(env['WATCHDOG_USEC']) / 1000 / 2;
  if (!(period > 0)) return () => undefined;
  const every = Math.max(period, MIN_PERIOD_MS);
  const agent = httpTransport({ socketPath, timeoutMs: every });
  const look = async (): Promise<void> => {
    try {
      const { status } = await agent.call({ method: 'Version', json: true, body: utf8('{}') });
      if (status === 200) await notifyServiceManager('WATCHDOG=1', env['NOTIFY_SOCKET']);
      else log.warn({ status }, 'The agent does not answer its own question');
    } catch (error) {
      log.warn({ error: (error as Error).message }, 'The agent does not answer its own question');
    }
  };
  const timer = setInterval(() => void look(), every);
  return () => {
    clearInterval(timer);
    agent.close();
  };
}
