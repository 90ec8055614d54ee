import type { IncomingMessage } from 'node:http';
import {
  Gateway,
  type gateway,
  implement,
  type MessageInitShape,
  RpcError,
  type ServiceImplementation,
  takeToll,
} from '@dstack-cloud/prpc';
import type { GatewayConfig } from '../config/gateway-config.ts';
import { GatewayError } from '../errors.ts';
import type { GatewayNode } from '../nodes/node-list.ts';
import { portPolicyOf } from '../register/port-policy-of.ts';
import { RegisterError } from '../register/register-error.ts';
import type { Registry } from '../register/registry.ts';
import type { Instance } from '../routes/instance.ts';
import { VERSION } from '../version.ts';
import { guestOf } from './caller.ts';

export type GatewayService = {
  readonly config: GatewayConfig;
  readonly registry: Registry;
  /** Who guests make tunnels to. */
  readonly nodes: () => readonly GatewayNode[];
  /** Absent when the certificate is a file: nothing is known of its key. */
  readonly acmeInfo?: () => Promise<MessageInitShape<typeof gateway.AcmeInfoResponseSchema>>;
  /** The guest says nothing about its ports. */
  readonly onUnknownPolicy: (instance: Instance) => void;
  readonly onRegistration: (outcome: 'accepted' | 'refused', fields: Record<string, unknown>) => void;
};

/** Who calls. */
export type Caller = { readonly request: IncomingMessage };

/** What a registration costs of what a network may ask in a minute: guests ask every three minutes. */
const REGISTRATION_COST = 5;

/** The methods for guests and users. */
export function gatewayMethods(service: GatewayService): ServiceImplementation<Caller> {
  const { config, registry, nodes } = service;
  const { proxy } = config.core;
  return implement(Gateway)<Caller>({
    Info: () => ({
      baseDomain: proxy.base_domain,
      externalPort: proxy.external_port,
      appAddressNsPrefix: proxy.app_address_ns_prefix,
      version: VERSION,
    }),
    ...(service.acmeInfo && { AcmeInfo: service.acmeInfo }),
    RegisterCvm: async ({ clientPublicKey, portPolicy }, { request }) => {
      // Before the certificate is read.
      if (!takeToll(request, REGISTRATION_COST))
        throw new RpcError('Too many registrations; try again later', { code: 'RATE_LIMITED', status: 429 });
      const guest = guestOf(request);
      try {
        const policy = portPolicy && portPolicyOf(portPolicy.ports, portPolicy.restrictMode);
        const instance = await registry.register({
          ...guest,
          publicKey: clientPublicKey,
          ...(policy && { portPolicy: policy }),
        });
        if (instance.portPolicy === undefined) service.onUnknownPolicy(instance);
        service.onRegistration('accepted', { app: guest.appId, instance: guest.instanceId, ip: instance.ip });
        return {
          wg: {
            clientIp: instance.ip,
            servers: nodes().map(({ publicKey: pk, ip, endpoint }) => ({ pk, ip, endpoint })),
          },
          agent: {
            externalPort: proxy.external_port,
            internalPort: proxy.agent_port,
            domain: proxy.base_domain,
            appAddressNsPrefix: proxy.app_address_ns_prefix,
          },
        };
      } catch (error) {
        throw answerTo(error, service, guest.instanceId);
      }
    },
  });
}

function answerTo(error: unknown, { onRegistration }: GatewayService, instance: string): unknown {
  if (error instanceof RegisterError) {
    onRegistration('refused', { instance, reason: error.message });
    const code = { invalid: 'INVALID_ARGUMENT', denied: 'UNAUTHORIZED', unavailable: 'UNAVAILABLE' } as const;
    return new RpcError(error.message, { code: code[error.code], cause: error });
  }
  if (!(error instanceof GatewayError)) return error;
  onRegistration('refused', { instance, reason: error.message });
  return new RpcError('The registration cannot be kept now; try the next gateway', {
    code: 'UNAVAILABLE',
    cause: error,
  });
}
