import { toHex } from '@dstack-cloud/encoding';
import {
  createPrpcClient,
  Gateway,
  type gateway,
  httpTransport,
  type MessageInitShape,
  type MessageShape,
} from '@dstack-cloud/prpc';
import { raTlsAgent } from '@dstack-cloud/ra-tls';
import { GuestError } from '../errors.ts';
import type { AllowedGateways } from './allowed-gateways.ts';
import type { ClientIdentity } from './client-identity.ts';

const CALL_TIMEOUT_MS = 15_000;
const MAX_ANSWER = 256 * 1024;

export interface RegisterInput {
  /** Without `/prpc`. */
  readonly url: string;
  readonly allowed: AllowedGateways;
  /** Root of the key service, PEM: the only one that is trusted. */
  readonly caCert: string;
  readonly identity: ClientIdentity;
  readonly request: MessageInitShape<typeof gateway.RegisterCvmRequestSchema>;
}

/** Asks one gateway for a tunnel. @throws whatever kept it from giving one */
export async function registerAt(
  input: RegisterInput,
): Promise<MessageShape<typeof gateway.RegisterCvmResponseSchema>> {
  const { url, identity } = input;
  if (!url.startsWith('https://'))
    throw new GuestError('gateway-refused', 'A gateway is reached by https only', {
      found: url.slice(0, 200),
    });
  try {
    return await call(input, await identity.plain());
  } catch (error) {
    // Gateways before 0.5.6 want evidence in the certificate.
    if (!/no attestation provided/.test((error as Error).message)) throw error;
    return await call(input, await identity.withEvidence());
  }
}

async function call(
  { url, allowed, caCert, request }: RegisterInput,
  client: { readonly cert: string; readonly key: string },
): Promise<MessageShape<typeof gateway.RegisterCvmResponseSchema>> {
  const agent = allowed === 'any' ? undefined : checkedAgent(allowed, caCert, client);
  const transport = httpTransport({
    baseUrl: `${url.replace(/\/+$/, '').replace(/\/prpc$/, '')}/prpc`,
    timeoutMs: CALL_TIMEOUT_MS,
    maxResponseBytes: MAX_ANSWER,
    // The key service says that any gateway will do.
    ...(agent === undefined ? { tls: { ...client, rejectUnauthorized: false } } : { agent }),
  });
  try {
    return await createPrpcClient(Gateway, transport).registerCvm(request);
  } finally {
    transport.close?.();
    agent?.destroy();
  }
}

/** Connections to gateways alone: the key service said in the certificate which application it is. */
function checkedAgent(
  allowed: readonly string[],
  ca: string,
  client: { readonly cert: string; readonly key: string },
) {
  return raTlsAgent({
    ca,
    ...client,
    keepAlive: false,
    verifyServer: {
      usage: null,
      evidence: 'ignore',
      onServer: ({ appId }) => {
        const found = appId === undefined ? 'none' : toHex(appId);
        if (allowed.includes(found)) return;
        throw new GuestError('gateway-refused', 'The server is not the gateway that the key service names', {
          expected: allowed.join(', '),
          found,
        });
      },
    },
  });
}
