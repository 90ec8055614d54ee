import { encodeAttestationForAll } from '@dstack-cloud/attestation';
import { fromHex, toBase64, toHex } from '@dstack-cloud/encoding';
import { type PlainRoute, RpcError } from '@dstack-cloud/prpc';
import type { Agent } from '../agent/agent.ts';
import { collectEvidence } from '../agent/collect-evidence.ts';
import { paddedReportData } from '../agent/padded-report-data.ts';
import { quoteAndLog } from '../agent/quote.ts';
import { jsonAnswer, jsonError } from './json-answer.ts';

/**
 * `GET /GetAttestation?user_data=<hex>` as the documentation has it, on dstack.sock only: the caller chooses the report
 * data, as in GetQuote. `document` is the Nitro form, which only an enclave has.
 */
export function getAttestationRoute(agent: Agent): PlainRoute {
  return {
    path: '/GetAttestation',
    handle: async (_request, _response, { query }) => {
      const parameters = new URLSearchParams(query);
      try {
        const reportData = paddedReportData(
          bytes(parameters.get('user_data') ?? parameters.get('report_data')),
        );
        if (agent.device.mode === 'dstack-nitro-enclave')
          return jsonAnswer(await enclaveAnswer(agent, reportData));
        const { quote, eventLog, attestation } = await quoteAndLog(agent, reportData);
        return jsonAnswer({
          document: null,
          attestation: toHex(encodeAttestationForAll(attestation)),
          quote: toHex(quote),
          event_log: eventLog,
          report_data: toHex(reportData),
          vm_config: agent.vmConfig,
        });
      } catch (error) {
        if (error instanceof RpcError) return jsonError(error.status, error.message);
        throw error;
      }
    },
  };
}

async function enclaveAnswer(agent: Agent, reportData: Uint8Array): Promise<object> {
  const attestation = await collectEvidence(agent, reportData, 'attestation');
  const { quote } = attestation;
  return {
    document: 'nsmQuote' in quote ? toBase64(quote.nsmQuote) : null,
    attestation: toHex(encodeAttestationForAll(attestation)),
    report_data: toHex(reportData),
  };
}

function bytes(text: string | null): Uint8Array {
  try {
    return fromHex((text ?? '').toLowerCase(), { prefix: 'allow' });
  } catch (cause) {
    throw new RpcError('user_data must be hex', { code: 'INVALID_ARGUMENT', cause });
  }
}
