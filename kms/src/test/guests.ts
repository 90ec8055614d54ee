import { request } from 'node:https';
import {
  type Attestation,
  encodeAttestation,
  encodeAttestationV1,
  eventLogToJson,
  ratlsReportData,
  runtimeEventDigest,
  type VerifiedAttestation,
} from '@dstack-cloud/attestation';
import { decodePem, equalBytes, utf8 } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyFromPem, p256KeyPem } from '@dstack-cloud/keys';
import { OID, parseRaTlsCertificate, type RaTlsCertificate } from '@dstack-cloud/ra-tls';
import { forgeCertificate } from './forge-certificate.ts';
import type { SimulatedGuest } from './simulated-guest.ts';

/** What a guest keeps of a GetAppKey answer. */
export type GuestKeys = Readonly<Record<string, string>>;

type Connection = { readonly ca?: string; readonly cert?: string; readonly key?: string };

/** Verifies evidence in the server's certificate, as guests do when there is some. */
type VerifyServer = (certificate: RaTlsCertificate) => Promise<VerifiedAttestation>;

/**
 * A guest of v0.6 (docs/protocol/ra-tls.md section 5.1): learns the temp CA from anybody, evidence as quote and log in
 * .1 and .2, a certificate of the temp CA, the configuration in the request, the answer read under v0.6's names.
 */
export async function v06Guest(
  port: number,
  guest: SimulatedGuest,
  verify: VerifyServer,
): Promise<GuestKeys> {
  const authority = await post(port, 'GetTempCaCert', '', {});
  const key = generateP256Key();
  const { quote, runtimeEvents } = guest.attest(ratlsReportData(key.spki));
  if (quote.mode !== 'dstack-tdx') throw new Error('a guest of v0.6 on bare TDX');
  const runtime = runtimeEvents.map((event) => ({
    imr: 3,
    eventType: 0x08000001,
    digest: runtimeEventDigest(event, 'sha384'),
    event: event.event,
    eventPayload: event.payload,
  }));
  const cert = forgeCertificate(
    key,
    [
      { oid: OID.tdxQuote, content: quote.quote },
      {
        oid: OID.tdxEventLog,
        content: utf8(eventLogToJson([...quote.eventLog, ...runtime], { strip: false })),
      },
    ],
    { issuerKey: p256KeyFromPem(authority['temp_ca_key']!) },
  );
  const connection = { ca: authority['ca_cert']!, cert, key: p256KeyPem(key) };
  const body = JSON.stringify({ api_version: 1, vm_config: guest.vmConfig });
  const answer = await post(port, 'GetAppKey', body, connection, verify);
  if (answer['tproxy_app_id'] === undefined) throw new Error('v0.6 reads tproxy_app_id');
  return answer;
}

/** A guest of the newer generation: evidence in .8, in one of its encodings, by the temp CA or by its own key. */
export async function newGuest(
  port: number,
  guest: SimulatedGuest,
  verify: VerifyServer,
  { encoding, issuer }: { encoding: 'scale' | 'messagepack'; issuer: 'temp' | 'self' },
): Promise<GuestKeys> {
  const authority = await post(port, 'GetTempCaCert', 'null', {});
  const key = generateP256Key();
  const attestation: Attestation = guest.attest(ratlsReportData(key.spki));
  const content = encoding === 'scale' ? encodeAttestation(attestation) : encodeAttestationV1(attestation);
  const cert = forgeCertificate(
    key,
    [{ oid: OID.attestation, content }],
    issuer === 'temp' ? { issuerKey: p256KeyFromPem(authority['temp_ca_key']!) } : {},
  );
  const connection = { ca: authority['ca_cert']!, cert, key: p256KeyPem(key) };
  return post(port, 'GetAppKey', JSON.stringify({ api_version: 1, vm_config: '' }), connection, verify);
}

/**
 * One call as both generations make it: `<base>/<Method>?json`, no content type. With a root, the server must chain to
 * it, have the host's name, the usage of a KMS, and evidence that verifies.
 */
function post(
  port: number,
  method: string,
  body: string,
  connection: Connection,
  verify?: VerifyServer,
): Promise<GuestKeys> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: 'localhost',
        port,
        path: `/prpc/${method}?json`,
        method: 'POST',
        agent: false,
        timeout: 60_000,
        rejectUnauthorized: connection.ca !== undefined,
        ...connection,
      },
      (response) => {
        const socket = response.socket as unknown as { getPeerX509Certificate(): { raw: Buffer } };
        const leaf = new Uint8Array(socket.getPeerX509Certificate().raw);
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const answer = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, string>;
          if (answer['error'] !== undefined) reject(new Error(answer['error']));
          else checkServer(leaf, connection.ca, verify).then(() => resolve(answer), reject);
        });
      },
    );
    call.on('error', reject);
    call.end(body);
  });
}

async function checkServer(leaf: Uint8Array, ca: string | undefined, verify?: VerifyServer): Promise<void> {
  if (ca === undefined) return;
  const certificate = parseRaTlsCertificate(leaf);
  if (certificate.usage !== 'kms:rpc') throw new Error('the server is no KMS');
  if (certificate.attestation !== undefined) await verify?.(certificate);
  if (equalBytes(leaf, decodePem(ca, 'CERTIFICATE'))) throw new Error('the root itself answers');
}
