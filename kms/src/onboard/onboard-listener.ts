import { createServer } from 'node:http';
import { configureServer } from '@dstack-cloud/prpc';
import { type Listener, listen } from '../server/listen.ts';
import { loadPasswordCheck } from '../server/load-password-check.ts';
import { watchedConnections } from '../server/watched-connections.ts';
import { onboardHandler } from './onboard-handler.ts';
import type { OnboardingContext } from './onboarding-context.ts';

/** The onboarding listener, and a promise for the moment when the operator is done with it. */
export async function startOnboarding(
  onboarding: OnboardingContext,
): Promise<{ listener: Listener; done: Promise<void> }> {
  const { address, port, token, htpasswd_file: passwords } = onboarding.config.core.onboard;
  const checkPassword = await loadPasswordCheck(passwords, 'core.onboard.htpasswd_file');
  if (token === '' && checkPassword === undefined) {
    onboarding.log.warn(
      'anybody who reaches the onboarding listener can make or choose the root keys: set core.onboard.auth_token or htpasswd_file',
    );
  }
  let finish = (): void => undefined;
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const handler = onboardHandler(onboarding, checkPassword, () => finish());
  const server = configureServer(createServer(handler), watchedConnections(onboarding));
  const listener = await listen(server, address, port);
  onboarding.log.info({ address: listener.address, port: listener.port }, 'onboarding listener started');
  return { listener, done };
}
