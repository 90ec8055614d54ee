import { notifyServiceManager } from '@dstack-cloud/attestation/obtain';
import type { Logger } from './log.ts';

const MIN_PERIOD_MS = 1000;

/**
 * Tells the service manager that the agent serves, and again and again that its public listener answers; when it does
 * not, the service manager starts the agent again.
 *
 * @param url what is asked; any answer of status 200 counts
 */
export async function watchOver(
  url: string,
  log: Logger,
  env: NodeJS.ProcessEnv = process.env,
): Promise<() => void> {
  await notifyServiceManager('READY=1', env['NOTIFY_SOCKET']);
  const period = Number(env['WATCHDOG_USEC']) / 1000 / 2;
  if (!(period > 0)) return () => undefined;
  const every = Math.max(period, MIN_PERIOD_MS);
  const look = async (): Promise<void> => {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(every) });
      await answer.arrayBuffer();
      if (answer.ok) await notifyServiceManager('WATCHDOG=1', env['NOTIFY_SOCKET']);
      else log.warn({ status: answer.status }, 'The agent does not answer its own question');
    } catch (error) {
      log.warn({ error: (error as Error).message }, 'The agent does not answer its own question');
    }
  };
  const timer = setInterval(() => void look(), every);
  return () => clearInterval(timer);
}
