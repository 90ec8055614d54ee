import { lookup } from 'node:dns';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { mayResolveTo } from '@dstack-cloud/vsock';
import { VmmError } from '../../errors.ts';
import { BrokenOff, registryFailed } from './registry-error.ts';

/** How the registry is reached. */
export interface Reach {
  /** Scheme, host and port that the configuration names. */
  readonly origin: string;
  /** Whether another host, to which the registry sends us, may have this address. */
  readonly mayReach?: (address: string) => boolean;
  /** PEM of the authority to trust instead of the system's. */
  readonly ca?: string;
  /** Until headers are there. */
  readonly answerMs: number;
  /** In each such span of time something has to arrive. */
  readonly spanMs: number;
  /** Before what broke off is asked for again. */
  readonly pauseMs: number;
}

export interface RegistryRequest {
  readonly accept: string;
  /** Value of `Authorization`; only the host of the first address sees it. */
  readonly authorization: string | undefined;
  /** Asks for the bytes from here on. */
  readonly from?: number;
  readonly signal: AbortSignal;
}

const MAX_REDIRECTS = 5;

/**
 * GET, redirects followed. The configuration names one host; wherever that sends us must be https and an address of the
 * internet, whatever its name resolves to: a registry must not have this host ask its own services or those of its network.
 *
 * @throws VmmError `registry_failed`
 */
export async function getFollowing(
  start: URL,
  request: RegistryRequest,
  reach: Reach,
): Promise<IncomingMessage> {
  let url = start;
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const sent = url.origin === start.origin ? request : { ...request, authorization: undefined };
    const response = await send(url, sent, reach);
    const { statusCode = 0, headers } = response;
    // The challenge of another host is not answered: it would say who gets the password.
    if (statusCode === 401 && url.origin !== start.origin) {
      response.destroy();
      throw registryFailed(`HTTP 401 of ${url.host}, to which it redirects`);
    }
    if (statusCode < 300 || statusCode > 399 || headers.location === undefined) return response;
    response.destroy();
    url = targetOf(headers.location, url, reach);
  }
  throw registryFailed(`more than ${MAX_REDIRECTS} redirects`);
}

/** Refuses an address to which the registry may not send us. @throws VmmError `registry_failed` */
export function targetOf(location: string, from: URL, reach: Reach): URL {
  if (location.length > 8192 || !URL.canParse(location, from.href))
    throw registryFailed('redirect to no address');
  const url = new URL(location, from.href);
  if (url.origin === reach.origin) return url;
  if (url.protocol !== 'https:' || url.username !== '' || url.password !== '')
    throw registryFailed(`redirect to ${url.protocol}//${url.host}, which is not https`);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  // Of a literal address Node asks no resolver.
  if (isIP(host) !== 0 && !mayReach(reach, host)) throw notOutside(host);
  return url;
}

async function send(
  url: URL,
  { accept, authorization, signal, from = 0 }: RegistryRequest,
  reach: Reach,
): Promise<IncomingMessage> {
  const isOwn = url.origin === reach.origin;
  const options = {
    method: 'GET',
    headers: {
      Accept: accept,
      'Accept-Encoding': 'identity',
      'User-Agent': 'dstack-vmm',
      ...(authorization === undefined ? {} : { Authorization: authorization }),
      ...(from === 0 ? {} : { Range: `bytes=${from}-` }),
    },
    agent: false,
    signal,
    // Said aloud, because NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment would else switch the check off.
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    ...(reach.ca === undefined ? {} : { ca: reach.ca }),
    ...(isOwn ? {} : { lookup: outsideLookup(reach) }),
  } as const;
  return await new Promise((resolve, reject) => {
    const outgoing = (url.protocol === 'https:' ? https : http).request(url, options);
    const timer = setTimeout(
      () => outgoing.destroy(new BrokenOff(`${url.host} does not answer within ${reach.answerMs} ms`)),
      reach.answerMs,
    );
    outgoing.once('response', (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    // Also after the answer began: then its stream says so.
    outgoing.on('error', (error) => {
      clearTimeout(timer);
      reject(asRegistryError(error, url.host, signal));
    });
    outgoing.end();
  });
}

/** Resolves a name once, and connects to nothing that may not be reached: the answer is what is connected to. */
function outsideLookup(reach: Reach): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(error, '', 0);
      const allowed = found.filter(({ address }) => mayReach(reach, address));
      const [first] = allowed;
      if (first === undefined) return callback(notOutside(hostname), '', 0);
      if (options.all === true) callback(null, allowed);
      else callback(null, first.address, first.family);
    });
  };
}

function mayReach({ mayReach: allowed }: Reach, address: string): boolean {
  return allowed?.(address) ?? mayResolveTo(address, false);
}

function notOutside(host: string): VmmError {
  return registryFailed(`redirect to ${host}, which is this host or a private network`);
}

/** What went wrong with a connection, as this package's own; an abort stays one. */
export function asRegistryError(error: Error, host: string, signal: AbortSignal): Error {
  if (signal.aborted) return signal.reason instanceof Error ? signal.reason : error;
  if (error instanceof VmmError) return error;
  const { code } = error as NodeJS.ErrnoException;
  return new BrokenOff(`${host}: ${code ?? error.message}`, error);
}
