import { createPrpcClient, httpTransport, KMS, type PrpcClient } from '@dstack-cloud/prpc';
import { type RaTlsAgentOptions, raTlsAgent } from '../tls/agent.ts';

/** The original's clients give up then (docs/protocol/kms.md section 1.5). */
const CALL_TIMEOUT_MS = 60_000;

export interface KmsClient {
  readonly call: PrpcClient<typeof KMS>;
  /** Ends the connections. */
  close(): void;
}

/**
 * A client of one KMS.
 * @param url of the KMS, with or without `/prpc` at its end
 */
export function kmsClient(
  url: string,
  options: RaTlsAgentOptions & { readonly timeoutMs?: number },
): KmsClient {
  const { timeoutMs = CALL_TIMEOUT_MS } = options;
  const agent = raTlsAgent(options);
  const transport = httpTransport({
    baseUrl: kmsBaseUrl(url),
    agent,
    timeoutMs,
    // The agent bounds the handshake itself; verifying the server's evidence may take longer than connecting.
    connectTimeoutMs: timeoutMs,
  });
  return {
    call: createPrpcClient(KMS, transport),
    close: () => {
      transport.close();
      agent.destroy();
    },
  };
}

/** `https://host:port/prpc`, whatever the URL ends in. */
export function kmsBaseUrl(url: string): string {
  const trimmed = url.replace(/\/+$/, '');
  return trimmed.endsWith('/prpc') ? trimmed : `${trimmed}/prpc`;
}
