import { toHex } from '@dstack-cloud/encoding';
import { createPrpcClient, DstackGuest, httpTransport } from '@dstack-cloud/prpc';
import type { Attester } from './certificate-keeper.ts';

const CALL_TIMEOUT_MS = 30_000;

/**
 * The guest agent of the gateway's own TEE. What is published is the text of its JSON answers, as the original does.
 * @param socketPath of the agent; without one nothing is quoted
 */
export function guestAgentAttester(socketPath: string): Attester {
  if (socketPath === '') return async () => undefined;
  const client = createPrpcClient(DstackGuest, httpTransport({ socketPath, timeoutMs: CALL_TIMEOUT_MS }));
  return async (reportData) => {
    const { attestation } = await client.attest({ reportData });
    // A platform without TDX has no bare quote.
    const quote = await client.getQuote({ reportData }).catch(() => undefined);
    return {
      attestation: JSON.stringify({ attestation: toHex(attestation) }),
      quote:
        quote === undefined
          ? ''
          : JSON.stringify({
              quote: toHex(quote.quote),
              event_log: quote.eventLog,
              report_data: toHex(quote.reportData),
              vm_config: quote.vmConfig,
            }),
    };
  };
}
