import { createHash } from 'node:crypto';
import { encodeAttestationForAll } from '@dstack-cloud/attestation';
import { concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { type PlainResponse, type PlainRoute, RpcError } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { quoteAndLog } from '../agent/quote.ts';
import { jsonAnswer, jsonError } from './json-answer.ts';
import { TokenBucket } from './rate-limit.ts';

/** Longest nonce, bytes. */
const MAX_NONCE = 64;
const DOMAIN = 'dstack-public-attestation:';
/** Quotes that strangers may ask for: a burst, then so many a second. */
const BURST = 16;
const PER_SECOND = 4;
/** An answer without a nonce proves no freshness, so one is kept for this time. */
const CACHE_MS = 60_000;

/**
 * `GET /attestation?nonce=<hex>` for anybody (chapter 30 section 1.7). The report data is a hash under our own tag, never
 * the caller's bytes: else a stranger could have `ratls-cert` data quoted and pose as this application to a KMS.
 */
export function attestationRoute(agent: Agent, clock: () => number = () => performance.now()): PlainRoute {
  const bucket = new TokenBucket(BURST, PER_SECOND, clock());
  let cached: { readonly at: number; readonly answer: PlainResponse } | undefined;
  return {
    path: '/attestation',
    handle: async (_request, response, { query }) => {
      // Public, and the same for everybody: a verifier in any browser may ask. No cookie has a part in it.
      response.setHeader('Access-Control-Allow-Origin', '*');
      const nonce = readNonce(query);
      if (nonce === undefined) return jsonError(400, `nonce must be up to ${MAX_NONCE} bytes of hex`);
      if (nonce.length === 0 && cached !== undefined && clock() - cached.at < CACHE_MS) return cached.answer;
      if (!bucket.take(clock()))
        return jsonError(429, 'Too many requests for evidence; try again in a second');
      try {
        const answer = jsonAnswer(await document(agent, nonce));
        if (nonce.length === 0) cached = { at: clock(), answer };
        return answer;
      } catch (error) {
        if (error instanceof RpcError) return jsonError(error.status, error.message);
        throw error;
      }
    },
  };
}

/** SHA-512 of the tag and the nonce: the report data of a public attestation, 64 bytes. */
function publicReportData(nonce: Uint8Array): Uint8Array {
  return new Uint8Array(
    createHash('sha512')
      .update(concatBytes(utf8(DOMAIN), nonce))
      .digest(),
  );
}

function readNonce(query: string): Uint8Array | undefined {
  const text = new URLSearchParams(query).get('nonce') ?? '';
  if (text.length > MAX_NONCE * 2 + 2) return undefined;
  try {
    const nonce = fromHex(text.toLowerCase(), { prefix: 'allow' });
    return nonce.length <= MAX_NONCE ? nonce : undefined;
  } catch {
    return undefined;
  }
}

async function document(agent: Agent, nonce: Uint8Array): Promise<Record<string, unknown>> {
  const reportData = publicReportData(nonce);
  const { quote, eventLog, attestation } = await quoteAndLog(agent, reportData);
  const { appInfo } = await agent.local.facts();
  const { publicTcbinfo } = agent.compose;
  return {
    attestation: toHex(encodeAttestationForAll(attestation)),
    quote: toHex(quote),
    event_log: eventLog,
    vm_config: publicTcbinfo ? agent.vmConfig : '',
    report_data: toHex(reportData),
    nonce: toHex(nonce),
    app_id: toHex(appInfo.appId),
    instance_id: toHex(appInfo.instanceId),
    compose_hash: toHex(appInfo.composeHash),
    ...(publicTcbinfo ? { app_compose: agent.composeText } : {}),
  };
}
