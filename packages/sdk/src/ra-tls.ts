import type { IncomingMessage, RequestListener } from 'node:http';
import { type Agent, request as httpsRequest, type Server } from 'node:https';
import type { Socket } from 'node:net';
import {
  createRaTlsServer as createServer,
  peerOf,
  RaTlsError,
  raTlsAgent,
  verifyPeerAttestation,
} from '@dstack-cloud/ra-tls';
import { collectBytes } from '@dstack-cloud/runtime';
import type { Report } from '@dstack-cloud/verifier';
import type { DstackClient } from './dstack-client.ts';
import { DstackError } from './errors.ts';
import type { TlsKeyOptions } from './types.ts';
import { requireEnough, servicesOf, type Trust, verifyCertificate } from './verify-evidence.ts';

const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
const TIMEOUT_MS = 30_000;

/** Which certificate an attested server shows. */
export interface RaTlsServerOptions extends Pick<TlsKeyOptions, 'subject' | 'altNames'> {
  readonly client: DstackClient;
  readonly handler: RequestListener;
}

/**
 * An HTTPS server whose certificate carries this machine's evidence, not yet listening. Clients may show certificates with
 * evidence of their own: `attestedClient(request, trust)` verifies it. A new process gets a new certificate.
 *
 * @throws DstackError
 */
export async function createRaTlsServer(options: RaTlsServerOptions): Promise<Server> {
  const { client, handler, subject, altNames } = options;
  const made = await client.getTlsKey({
    usageRaTls: true,
    usageServerAuth: true,
    ...(subject === undefined ? {} : { subject }),
    ...(altNames === undefined ? {} : { altNames }),
  });
  return createServer({ key: made.key, certChain: made.certificate_chain.join('\n'), handler });
}

const clients = new WeakMap<Socket, WeakMap<Trust, Promise<Report>>>();

/**
 * Verifies who sent a request, once for each connection and trust.
 *
 * @returns undefined when the client showed no certificate
 * @throws DstackError `untrusted` when it is not what was expected
 */
export async function attestedClient(request: IncomingMessage, trust: Trust): Promise<Report | undefined> {
  requireEnough(trust);
  const { certificate } = peerOf(request);
  if (certificate === undefined) return undefined;
  const reports = clients.get(request.socket) ?? new WeakMap<Trust, Promise<Report>>();
  clients.set(request.socket, reports);
  const known = reports.get(trust) ?? verifyCertificate(certificate.der, trust);
  reports.set(trust, known);
  return await known;
}

/** An answer of an attested server. */
export interface AttestedResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Uint8Array;
  text(): string;
  json(): unknown;
}

export interface AttestedRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Key and certificate with which a client shows its own evidence: `getTlsKey` with `usageRaTls` and `usageClientAuth`. */
export interface OwnIdentity {
  readonly key: string;
  readonly certificate_chain: readonly string[];
}

/**
 * Connections to servers that have proved what they are before a byte of a request is sent: their certificate carries
 * evidence, which is for this very key, and which is what was expected. Its issuer and its names do not count.
 */
export class AttestedFetcher {
  readonly #agent: Agent;

  /** @throws DstackError `argument` when too little is expected */
  constructor(trust: Trust, identity?: OwnIdentity) {
    requireEnough(trust);
    const { roots, collateral } = servicesOf(trust);
    const now = (): number => Math.floor(Date.now() / 1000);
    this.#agent = raTlsAgent({
      verifyServer: {
        usage: null,
        evidence: 'required',
        verify: (shown) => verifyPeerAttestation(shown, { roots, collateral, now: now() }),
        onServer: async ({ certificate }) => {
          await verifyCertificate(certificate.der, trust);
        },
      },
      ...(identity === undefined ? {} : { key: identity.key, cert: identity.certificate_chain.join('\n') }),
    });
  }

  /** @throws DstackError `untrusted`, `connection`, `timeout`, `aborted`, `answer` */
  async fetch(url: string | URL, wanted: AttestedRequest = {}): Promise<AttestedResponse> {
    const timeout = AbortSignal.timeout(wanted.timeoutMs ?? TIMEOUT_MS);
    const signal = wanted.signal === undefined ? timeout : AbortSignal.any([timeout, wanted.signal]);
    try {
      return await this.#send(new URL(url), wanted, signal);
    } catch (cause) {
      if (cause instanceof DstackError) throw cause;
      if (timeout.aborted)
        throw new DstackError('timeout', `No answer from ${String(url)} in time`, { cause });
      if (signal.aborted) throw new DstackError('aborted', 'The caller ended the call', { cause });
      const isRefused = cause instanceof RaTlsError && cause.code !== 'connection';
      throw new DstackError(isRefused ? 'untrusted' : 'connection', (cause as Error).message, { cause });
    }
  }

  /** Closes kept connections. */
  close(): void {
    this.#agent.destroy();
  }

  async #send(url: URL, wanted: AttestedRequest, signal: AbortSignal): Promise<AttestedResponse> {
    if (url.protocol !== 'https:')
      throw new DstackError('argument', `${url.href} is not https: nothing is proved there`);
    const { method = 'GET', headers = {}, body } = wanted;
    return await new Promise((resolve, reject) => {
      const outgoing = httpsRequest(url, { method, headers, agent: this.#agent, signal }, (response) => {
        collect(response).then((bytes) => {
          const text = (): string => new TextDecoder().decode(bytes);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: bytes,
            text,
            json: () => JSON.parse(text()) as unknown,
          });
        }, reject);
      });
      outgoing.once('error', reject);
      outgoing.end(body);
    });
  }
}

async function collect(response: IncomingMessage): Promise<Uint8Array> {
  const tooLong = (): DstackError =>
    new DstackError('answer', `The answer is larger than ${MAX_ANSWER_BYTES} bytes`);
  return await collectBytes(response, MAX_ANSWER_BYTES, tooLong);
}
