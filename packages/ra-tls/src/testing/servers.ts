// Servers and clients for the tests of this package; nothing outside of tests imports it.
import { type Agent, request as httpsRequest, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { certificatePem, issueCertificate } from '../certificate/issue-certificate.ts';
import { tempClient } from '../certificate/profiles.ts';
import { raTlsAgent } from '../tls/agent.ts';
import { type PeerVerifier, peerOf, readThen } from '../tls/peer.ts';
import { createRaTlsServer, type RaTlsServerOptions, type SessionEvent } from '../tls/server.ts';
import { attestationFor, bindingOnly, now, type TestKms, testKms } from './samples.ts';

const opened: Array<() => void> = [];

/** Closes something after the test. */
export function closeLater(close: () => void): void {
  opened.push(close);
}

/** For `afterEach`. */
export function closeAll(): void {
  for (const close of opened.splice(0)) close();
}

export interface Running {
  readonly kms: TestKms;
  readonly server: Server;
  readonly port: number;
  readonly events: SessionEvent[];
}

/** A server that answers who the client is, or why it is refused. */
export async function startServer(
  verify: PeerVerifier = bindingOnly,
  kms: TestKms = testKms(),
  options: Partial<RaTlsServerOptions> = {},
): Promise<Running> {
  const events: SessionEvent[] = [];
  const server = createRaTlsServer({
    key: p256KeyPem(kms.rpcKey),
    certChain: kms.rpcPem,
    clientCa: kms.tempCaPem,
    onSession: (event) => events.push(event),
    handler: (request, response) => {
      peerOf(request)
        .attestation(readThen(verify))
        .then(
          (verified) => response.end(verified ? 'attested' : 'anonymous'),
          (error: Error) => response.writeHead(400).end(error.message),
        );
    },
    ...options,
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater(() => {
    server.closeAllConnections();
    server.close();
  });
  return { kms, server, port: (server.address() as AddressInfo).port, events };
}

/** Status and body of GET /. */
export function get(port: number, agent: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest({ host: '127.0.0.1', port, agent, timeout: 5000 }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve(`${response.statusCode} ${text}`));
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end();
  });
}

export type Identity = { cert: string; key: string } | undefined;

/** An agent that trusts the root of this server. */
export function agentFor({ kms }: Running, identity?: Identity): Agent {
  const agent = raTlsAgent({ ca: kms.rootPem, ...identity, verifyServer: { verify: bindingOnly } });
  closeLater(() => agent.destroy());
  return agent;
}

/** A client of the given kind. */
export function identity(
  kms: TestKms,
  kind: 'temp' | 'temp-no-evidence' | 'self' | 'self-attested' | 'root-attested' | 'other-key' | 'expired',
): Identity {
  const key = generateP256Key();
  const attestation = attestationFor(key);
  const subject = { commonName: 'RA-TLS TEMP Cert' };
  const made = {
    temp: () => tempClient({ spki: key.spki, issuer: kms.temp, attestation, now }),
    'temp-no-evidence': () =>
      issueCertificate({ subject, spki: key.spki, issuer: kms.temp, notAfter: now + 3600 }),
    self: () => issueCertificate({ subject, spki: key.spki, issuer: key, notAfter: now + 3600 }),
    'self-attested': () =>
      issueCertificate({ subject, spki: key.spki, issuer: key, notAfter: now + 3600, attestation }),
    'root-attested': () => tempClient({ spki: key.spki, issuer: kms.root, attestation, now }),
    'other-key': () =>
      tempClient({ spki: key.spki, issuer: kms.temp, attestation: attestationFor(generateP256Key()), now }),
    expired: () =>
      issueCertificate({ subject, spki: key.spki, issuer: kms.temp, notAfter: now - 60, attestation }),
  };
  return { cert: certificatePem(made[kind]()), key: p256KeyPem(key) };
}
