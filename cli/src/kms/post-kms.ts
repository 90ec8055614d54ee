import { request as plainRequest } from 'node:http';
import { request } from 'node:https';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { parseRaTlsCertificate, USAGE } from '@dstack-cloud/ra-tls';

const TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

/**
 * One JSON call of a KMS whose answer carries its own proof.
 * @param url of the KMS, without `/prpc`
 * @throws Error when there is no good answer
 */
export async function postKms(url: string, method: string, body: unknown): Promise<unknown> {
  const target = `${url.replace(/\/+$/, '')}/prpc/${method}?json`;
  const text = JSON.stringify(body);
  const options = {
    method: 'POST',
    timeout: TIMEOUT_MS,
    // A signature in the answer authenticates it; the certificate's CA is not known to this machine.
    rejectUnauthorized: false,
    headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
  };
  const start = target.startsWith('https:') ? request : plainRequest;
  return await new Promise((resolve, reject) => {
    const outgoing = start(target, options, (response) => {
      const other = otherUsage(response.socket);
      if (other !== undefined) {
        return outgoing.destroy(
          new Error(`its certificate is for "${other}", expected "${USAGE.kmsRpc}": this is no KMS`),
        );
      }
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_ANSWER_BYTES) response.destroy(new Error('the answer is too large'));
        chunks.push(chunk);
      });
      response.once('error', reject);
      response.once('end', () => {
        const answer = Buffer.concat(chunks).toString('utf8');
        if (response.statusCode !== 200)
          return reject(new Error(`status ${response.statusCode}: ${answer.slice(0, 300)}`));
        try {
          resolve(JSON.parse(answer));
        } catch {
          reject(new Error('the answer is no JSON'));
        }
      });
    });
    outgoing.once('timeout', () => outgoing.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    outgoing.once('error', reject);
    outgoing.end(text);
  });
}

/** What the server's certificate is for, if not for a KMS. One that is not of ours may be of a proxy before a KMS. */
function otherUsage(socket: Socket): string | undefined {
  const der = socket instanceof TLSSocket ? socket.getPeerX509Certificate()?.raw : undefined;
  if (der === undefined) return undefined;
  try {
    const { usage } = parseRaTlsCertificate(new Uint8Array(der));
    return usage === USAGE.kmsRpc ? undefined : usage;
  } catch {
    return undefined;
  }
}
