import { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { sharedFor } from '@dstack-cloud/runtime';
import { assertBootInfo } from '../assert-boot-info.ts';
import { backendUrl, plainHttpWarnings } from '../backend-url.ts';
import { PolicyError } from '../errors.ts';
import { exchange, type HttpAnswer, isConnectFailure, openConnections } from '../http/http-exchange.ts';
import type { Policy } from '../policy.ts';
import { decisionFromAnswer, infoFromAnswer } from './webhook-answer.ts';
import { webhookBody } from './webhook-body.ts';

const MAX_ANSWER_BYTES = 65_536;
const RETRY_DELAY_MS = 50;
const INFO_REUSE_MS = 1_000;

/** Configuration of the auth API client. */
export type WebhookPolicyOptions = {
  /** For example `http://auth-api:8000`. */
  url: string;
  /** Goes into `User-Agent: dstack-kms/<version>`. */
  version?: string;
  /** For each exchange; default 10 s. The original waits for ever. */
  timeoutMs?: number;
  /** PEM of the authority behind an https URL; default the system's. */
  ca?: string;
  /** Told once about a configuration that is legal and unwise. */
  onWarning?: (message: string) => void;
};

/**
 * Ask an auth API. Anything but a complete, well-typed 2xx answer is an error and thereby a refusal.
 * @throws PolicyError `bad-configuration`
 */
export function webhookPolicy(options: WebhookPolicyOptions): Policy {
  const { version = '0.6.0', timeoutMs = 10_000, ca, onWarning } = options;
  const base = backendUrl(options.url, 'The auth API address');
  for (const warning of plainHttpWarnings([['The auth API', base.href]])) onWarning?.(warning);
  if (ca !== undefined) assertCertificate(ca);
  const connections = openConnections(base, ca === undefined ? {} : { ca });
  const headers = { 'user-agent': `dstack-kms/${version}`, accept: '*/*' };

  const send = async (method: 'GET' | 'POST', url: URL, body?: string): Promise<HttpAnswer> => {
    const json = body === undefined ? {} : { 'content-type': 'application/json' };
    const request = {
      method,
      url,
      headers: { ...headers, ...json },
      timeoutMs,
      maxBytes: MAX_ANSWER_BYTES,
      connections,
      ...(body === undefined ? {} : { body }),
    };
    try {
      return await exchange(request);
    } catch (error) {
      if (!isConnectFailure(error)) throw error;
      await sleep(RETRY_DELAY_MS);
      return await exchange(request);
    }
  };

  return {
    async authorize(kind, info) {
      assertBootInfo(info);
      return decisionFromAnswer(await send('POST', below(base, `bootAuth/${kind}`), webhookBody(info)));
    },
    // Anonymous callers reach this through GetMeta: share one question among them.
    describe: sharedFor(INFO_REUSE_MS, async () => infoFromAnswer(await send('GET', base))),
    close: () => connections.close(),
  };
}

/** OpenSSL takes an authority file without a certificate in silence, and then trusts nobody. */
function assertCertificate(pem: string): void {
  try {
    new X509Certificate(pem);
  } catch (cause) {
    throw new PolicyError(
      'bad-configuration',
      'The authority file of the auth API holds no certificate in PEM',
      {
        cause,
      },
    );
  }
}

/** `{url}/path`, with one slash between, as the original joins them. */
function below(base: URL, path: string): URL {
  return new URL(base.href.endsWith('/') ? base.href + path : `${base.href}/${path}`);
}
