import type { AddressInfo } from 'node:net';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { createPrpcHandler, implement, KMS, RpcError, type RpcErrorCode } from '@dstack-cloud/prpc';
import {
  appLeaf,
  certificatePem,
  createRaTlsServer,
  issueCertificate,
  issuerOf,
  peerOf,
  rootCa,
  rpcCertificate,
  tempCa,
  verifyCsr,
} from '@dstack-cloud/ra-tls';

/** How a KMS of the tests behaves. */
export interface FakeKmsOptions {
  /** Text with which it refuses GetAppKey. */
  readonly refuse?: string;
  /** Code that it refuses with. */
  readonly refuseCode?: RpcErrorCode;
  readonly refuseStatus?: number;
  /** Usage of its certificate; default `kms:rpc`. */
  readonly usage?: string;
  /** Asked before each certificate is signed; it may wait, or throw to refuse. */
  readonly onSign?: (subject: string) => Promise<void>;
}

/** A KMS that releases keys to whoever shows any evidence; it verifies nothing. */
export interface FakeKms {
  readonly url: string;
  readonly rootSpki: Uint8Array;
  /** Root certificate, PEM. */
  readonly rootPem: string;
  /** Names of the methods that were called. */
  readonly calls: string[];
  close(): void;
}

const now = Math.floor(Date.now() / 1000);

/** Starts a KMS without evidence of its own on a free port. */
export async function startFakeKms(options: FakeKmsOptions = {}): Promise<FakeKms> {
  const [rootKey, tempKey, rpcKey] = [generateP256Key(), generateP256Key(), generateP256Key()];
  const root = rootCa({ key: rootKey, now });
  const temp = tempCa({ key: tempKey, now });
  const issuer = issuerOf(root, rootKey);
  const common = { issuer, now, spki: rpcKey.spki };
  const rpc =
    options.usage === undefined
      ? rpcCertificate({ ...common, domain: 'localhost' })
      : issueCertificate({
          subject: { commonName: 'localhost' },
          spki: rpcKey.spki,
          issuer,
          notAfter: now + 3600,
          altNames: ['localhost'],
          usage: options.usage,
        });
  const calls: string[] = [];
  const caCert = certificatePem(root);
  const service = implement(KMS)<undefined>({
    GetTempCaCert: () => ({ tempCaCert: certificatePem(temp), tempCaKey: p256KeyPem(tempKey), caCert }),
    GetAppKey: () => {
      if (options.refuse !== undefined) {
        const { refuseCode: code, refuseStatus: status } = options;
        throw new RpcError(`App not allowed: ${options.refuse}`, {
          ...(code && { code }),
          ...(status && { status }),
        });
      }
      return {
        caCert,
        diskCryptKey: new Uint8Array(32).fill(1),
        envCryptKey: new Uint8Array(32).fill(2),
        k256Key: new Uint8Array(32).fill(3),
        k256Signature: new Uint8Array(65).fill(4),
        gatewayAppId: 'gw',
        osImageHash: new Uint8Array(32).fill(5),
      };
    },
    SignCert: async ({ apiVersion, csr, signature }) => {
      const request = verifyCsr(apiVersion, csr, signature);
      await options.onSign?.(request.config.subject);
      const config = { ...request.config, extQuote: false, extAppInfo: false };
      const leaf = appLeaf({ issuer, now, spki: request.pubkey, config });
      return { certificateChain: [certificatePem(leaf), caCert] };
    },
  });
  const handler = createPrpcHandler<undefined>({
    mounts: [{ path: '/prpc', trim: 'KMS.', services: [service] }],
    before: (request, { method }) => {
      calls.push(`${method}${peerOf(request).certificate?.evidenceBytes ? ' attested' : ''}`);
      return undefined;
    },
  });
  const server = createRaTlsServer({
    key: p256KeyPem(rpcKey),
    certChain: certificatePem(rpc) + caCert,
    clientCa: certificatePem(temp),
    handler,
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://localhost:${port}`,
    rootSpki: rootKey.spki,
    rootPem: caCert,
    calls,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
