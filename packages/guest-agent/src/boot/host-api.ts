import { type RequestOptions, request } from 'node:http';
import { connectVsock } from '@dstack-cloud/attestation/obtain';
import type { Logger } from '../log.ts';

/** Largest payload that the host keeps, bytes. */
const MAX_PAYLOAD = 4096;
const TIMEOUT_MS = 30_000;
/** `vsock://CID:PORT/PATH`. */
export const VSOCK_URL: RegExp = /^vsock:\/\/(\d{1,10}):(\d{1,10})(\/[A-Za-z0-9/._-]*?)?\/*$/;

/** Events that the host knows. */
type HostEvent = 'boot.progress' | 'boot.error' | 'instance.info' | 'shutdown.progress';

/** Tells the host how far the guest is; never fails, since the host may be hostile or gone. */
export type NotifyHost = (event: HostEvent, payload: string) => Promise<void>;

/**
 * Notifier for `host_api_url`: `vsock://CID:PORT/api`, `http://HOST:PORT/api`, or `unix:PATH` for a machine whose host
 * listens on a socket. Without a URL, or with one of another form, nothing is sent.
 */
export function hostNotifier(url: string | undefined, log: Logger): NotifyHost {
  const target = url === undefined ? undefined : requestTarget(url);
  if (url !== undefined && target === undefined) log.warn({ url }, 'Host API address has no transport here');
  return async (event, payload) => {
    if (target === undefined) return;
    try {
      await post(target, JSON.stringify({ event, payload: clip(payload) }));
    } catch (error) {
      log.warn({ event, error: (error as Error).message }, 'Host was not notified');
    }
  };
}

function requestTarget(url: string): RequestOptions | undefined {
  if (url.startsWith('unix:')) return { socketPath: url.slice(5), path: '/api/Notify?json' };
  const vsock = VSOCK_URL.exec(url);
  if (vsock !== null) return vsockTarget(Number(vsock[1]), Number(vsock[2]), vsock[3] ?? '');
  if (!url.startsWith('http://') || !URL.canParse(url)) return undefined;
  const { hostname, port, pathname } = new URL(url);
  return { host: hostname, port, path: `${pathname.replace(/\/+$/, '')}/Notify?json` };
}

function vsockTarget(cid: number, port: number, base: string): RequestOptions {
  return {
    path: `${base}/Notify?json`,
    createConnection: (_options, done) => {
      // An error of the callback is the request's; the type of Node asks for a stream even then.
      const failed = done as (error: Error) => void;
      connectVsock(cid, port).then((stream) => done(null, stream), failed);
      return undefined;
    },
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

function post(target: RequestOptions, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const outgoing = request({ ...target, method: 'POST', headers, timeout: TIMEOUT_MS }, (response) => {
      response.resume();
      response.once('end', () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`status ${response.statusCode}`)),
      );
      response.once('error', reject);
    });
    outgoing.once('timeout', () => outgoing.destroy(new Error('timed out')));
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}
