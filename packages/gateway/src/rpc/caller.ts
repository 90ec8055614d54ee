import type { IncomingMessage } from 'node:http';
import { toHex } from '@dstack-cloud/encoding';
import { RpcError } from '@dstack-cloud/prpc';
import { parseRaTlsCertificate, peerOf, RaTlsError } from '@dstack-cloud/ra-tls';

/** Who a client certificate of the KMS says a guest is; hex. */
export type GuestIdentity = {
  readonly appId: string;
  readonly instanceId: string;
  readonly composeHash: string;
};

/**
 * The guest that asks, from the app-info extension of its certificate. Only a certificate that chains to the KMS counts:
 * what another says about itself is nobody's word.
 * @throws RpcError with the texts that guests of the original know
 */
export function guestOf(request: IncomingMessage): GuestIdentity {
  const peer = peerOf(request);
  if (peer.certificate === undefined)
    throw new RpcError('Client authentication is required', { code: 'UNAUTHORIZED' });
  if (!peer.chained)
    throw new RpcError('The client certificate is not of the KMS of this gateway', { code: 'UNAUTHORIZED' });
  try {
    const { appInfo } = parseRaTlsCertificate(peer.certificate.der);
    if (appInfo === undefined)
      throw new RpcError('neither app-info nor attestation provided', { code: 'UNAUTHORIZED' });
    const { appId, instanceId, composeHash } = appInfo;
    return { appId: toHex(appId), instanceId: toHex(instanceId), composeHash: toHex(composeHash) };
  } catch (error) {
    if (error instanceof RaTlsError)
      throw new RpcError(error.message, { code: 'UNAUTHORIZED', cause: error });
    throw error;
  }
}
