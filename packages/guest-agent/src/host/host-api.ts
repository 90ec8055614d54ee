import { utf8 } from '@dstack-cloud/encoding';
import type { Logger } from '../log.ts';
import { hostTransport } from './host-transport.ts';

/** Largest payload that the host keeps, bytes. */
const MAX_PAYLOAD = 4096;
const TIMEOUT_MS = 30_000;

/** Events that the host knows. */
type HostEvent = 'boot.progress' | 'boot.error' | 'instance.info' | 'shutdown.progress';

/** Tells the host how far the guest is; never fails, since the host may be hostile or gone. */
export type NotifyHost = (event: HostEvent, payload: string) => Promise<void>;

/** Notifier for `host_api_url`; without one, or with one that has no transport, nothing is sent. */
export function hostNotifier(url: string | undefined, log: Logger): NotifyHost {
  const transport = hostTransport(url, { timeoutMs: TIMEOUT_MS });
  if (url !== undefined && transport === undefined)
    log.warn({ url }, 'Host API address has no transport here');
  return async (event, payload) => {
    if (transport === undefined) return;
    try {
      const body = utf8(JSON.stringify({ event, payload: clip(payload) }));
      const { status } = await transport.call({ method: 'Notify', json: true, body });
      if (status !== 200) throw new Error(`status ${status}`);
    } catch (error) {
      log.warn({ event, error: (error as Error).message }, 'Host was not notified');
    }
  };
}

/** At most MAX_PAYLOAD bytes, cut between characters: the host drops longer ones silently. */
function clip(text: string): string {
  const bytes = Buffer.from(text, 'utf8');
  return bytes.length <= MAX_PAYLOAD
    ? text
    : bytes
        .subarray(0, MAX_PAYLOAD - 3)
        .toString('utf8')
        .replace(/\ufffd+$/, '');
}
