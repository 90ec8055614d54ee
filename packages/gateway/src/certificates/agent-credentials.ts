import {
  AppInfoSchema,
  createPrpcClient,
  DstackGuest,
  encodeJson,
  httpTransport,
  type PrpcClient,
} from '@dstack-cloud/prpc';
import { GatewayError } from '../errors.ts';

const CALL_TIMEOUT_MS = 30_000;

/** What the listener for guests is served with, PEM. */
export type ListenerCredentials = {
  readonly key: string;
  readonly certChain: string;
  /** The CA whose certificates guests show. */
  readonly clientCa: string;
};

/**
 * A key and certificate from the guest agent of the gateway's own TEE: of the key service that guests have theirs from,
 * and with the gateway's app id in it, by which guests know it.
 * @throws GatewayError `config-unreadable` when the agent gives none
 */
export async function agentCredentials(socketPath: string, rpcDomain: string): Promise<ListenerCredentials> {
  const answer = await clientOf(socketPath)
    .getTlsKey({ subject: 'dstack-gateway', altNames: [rpcDomain], usageServerAuth: true })
    .catch((cause: Error) => {
      throw new GatewayError(
        'config-unreadable',
        `The guest agent at ${socketPath} gives no certificate for ${rpcDomain}: ${cause.message}`,
        { cause },
      );
    });
  const { key, certificateChain: chain } = answer;
  const clientCa = chain.at(-1);
  if (key === '' || clientCa === undefined || chain.length < 2)
    throw new GatewayError(
      'config-unreadable',
      `The guest agent at ${socketPath} gives a certificate without the CA that signed it`,
    );
  return { key, certChain: chain.join('\n'), clientCa };
}

/** JSON of what the guest agent says about the gateway, for its page `/.dstack/app-info`. */
export async function agentInfo(socketPath: string): Promise<string> {
  return encodeJson(AppInfoSchema, await clientOf(socketPath).info({}));
}

/**
 * The secret that the gateway's state is sealed with: of the application, so that its nodes share it and another one has none.
 * @throws GatewayError `config-unreadable` when the agent gives none
 */
export async function stateSecret(socketPath: string): Promise<Uint8Array> {
  const wanted = { path: 'gateway/state/v1', purpose: 'seal' };
  const { key } = await clientOf(socketPath)
    .getKey(wanted)
    .catch((cause: Error) => {
      const why = `The guest agent at ${socketPath} gives no key for the state: ${cause.message}`;
      throw new GatewayError('config-unreadable', why, { cause });
    });
  if (key.length < 32)
    throw new GatewayError(
      'config-unreadable',
      `The guest agent at ${socketPath} gives a key of ${key.length} bytes`,
    );
  return key;
}

function clientOf(socketPath: string): PrpcClient<typeof DstackGuest> {
  return createPrpcClient(DstackGuest, httpTransport({ socketPath, timeoutMs: CALL_TIMEOUT_MS }));
}
