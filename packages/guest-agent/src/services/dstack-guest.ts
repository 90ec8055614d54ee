import type { IncomingMessage } from 'node:http';
import { create } from '@bufbuild/protobuf';
import { toBase64 } from '@dstack-cloud/encoding';
import {
  DstackGuest,
  type GetQuoteResponse,
  GetQuoteResponseSchema,
  implement,
  type ServiceImplementation,
  withJsonExtras,
} from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { chainedKey, signWithAppKey, verifyWithKey } from '../agent/app-keys.ts';
import { emitEvent } from '../agent/emit-event.ts';
import { info } from '../agent/info.ts';
import { paddedReportData } from '../agent/padded-report-data.ts';
import { attest, getQuote } from '../agent/quote.ts';
import { freshTlsKey } from '../agent/tls-key.ts';
import { REVISION, VERSION } from '../version.ts';

/** Service `DstackGuest` of dstack.sock (docs/protocol/guest-agent.md section 3). */
export function dstackGuestService(agent: Agent): ServiceImplementation<IncomingMessage> {
  return implement(DstackGuest)<IncomingMessage>({
    GetTlsKey: (request) => freshTlsKey(agent, request),
    GetKey: ({ path, purpose, algorithm }) => {
      const { key, signatureChain } = chainedKey(agent, path, purpose, algorithm);
      return { key, signatureChain: [...signatureChain] };
    },
    GetQuote: async ({ reportData }, request) => {
      const response = await getQuote(agent, paddedReportData(reportData));
      return wantsBase64(request) ? base64Quote(response) : response;
    },
    Attest: async ({ reportData }) => ({ attestation: await attest(agent, paddedReportData(reportData)) }),
    EmitEvent: ({ event, payload }) => emitEvent(agent, event, payload),
    Info: () => info(agent, 'inside'),
    Sign: ({ algorithm, data }) => signWithAppKey(agent, algorithm, data),
    Verify: ({ algorithm, data, signature, publicKey }) => ({
      valid: verifyWithKey(algorithm, data, signature, publicKey),
    }),
    Version: () => ({ version: VERSION, rev: REVISION }),
    // No GPU is attested by this guest; the original answers the same without one.
    GpuInfo: () => ({ attestation: '' }),
  });
}

/** The documentation asks for base64 with `?encoding=base64`; hex stays the default. */
function wantsBase64(request: IncomingMessage): boolean {
  const query = (request.url ?? '').split('?')[1] ?? '';
  return query.includes('encoding=base64') && new URLSearchParams(query).get('encoding') === 'base64';
}

function base64Quote(response: GetQuoteResponse): GetQuoteResponse {
  const { eventLog, reportData, vmConfig } = response;
  // Extra members replace nothing: the hex member is dropped and `quote` is written as text.
  const rest = create(GetQuoteResponseSchema, { eventLog, reportData, vmConfig });
  return withJsonExtras(rest, {
    omitDefaults: ['quote', 'attestation'],
    members: { quote: toBase64(response.quote) },
  });
}
