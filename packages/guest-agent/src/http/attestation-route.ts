import { createHash } from 'node:crypto';
import { encodeAttestationForAll } from '@dstack-cloud/attestation';
import { concatBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { type PlainResponse, type PlainRoute, RpcError } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { quoteAndLog } from '../agent/quote.ts';
import type { PublicEvidence } from '../public/public-evidence.ts';
import { jsonAnswer, jsonError } from './json-answer.ts';

/** Longest nonce, bytes. */
const MAX_NONCE = 64;
const DOMAIN = 'dstack-public-attestation:';
/**
 * `GET /attestation?nonce=<hex>` for anybody (docs/protocol/guest-agent.md section 5.1). The report data is a hash
 * under our own tag, never the caller's bytes: else a stranger could have `ratls-cert` data quoted and pose as this
 * application to a KMS.
 */
export function attestationRoute(agent: Agent, evidence: PublicEvidence): PlainRoute {
  return {
    path: '/attestation',
    handle: async (request, response, { query }) => {
      // Public, and the same for everybody: a verifier in any browser may ask. No cookie has a part in it.
      response.setHeader('Access-Control-Allow-Origin', '*');
      const nonce = readNonce(query);
      if (nonce === undefined) return jsonError(400, `nonce must be up to ${MAX_NONCE} bytes of hex`);
      const make = async (): Promise<PlainResponse> => jsonAnswer(await document(agent, nonce));
      try {
        return nonce.length === 0
          ? await evidence.shared('attestation', request, make)
          : await evidence.fresh(request, make);
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
  const { appInfo } = await agent.local.publicFacts();
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
