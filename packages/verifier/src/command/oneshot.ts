import { writeFileAtomic } from '@dstack-cloud/app';
import { AttestationError, inspectAttestation, type VerifyOptions } from '@dstack-cloud/attestation';
import { decodePem, printable, printableMessage, utf8Text } from '@dstack-cloud/encoding';
import { parseRaTlsCertificate, RaTlsError } from '@dstack-cloud/ra-tls';
import { VerifierError } from '../errors.ts';
import { HttpError } from '../service/http-error.ts';
import { parseVerifyRequest } from '../service/request.ts';
import { type Response, refusedResponse } from '../service/response.ts';
import { verifyRequest } from '../service/verify-request.ts';
import { currentTime } from './evidence-options.ts';
import { EXIT, jsonText, type Output } from './output.ts';
import { readInput } from './read-input.ts';

const MAX_REQUEST_BYTES = 24 * 1024 * 1024;
const INTERNAL = 'Internal error: ';

/** `--verify FILE`: one request as JSON; its answer on one line of stdout and, for verdicts, beside the file. */
export async function oneshotRequest(
  path: string,
  options: Omit<VerifyOptions, 'now'>,
  output: Output,
): Promise<number> {
  const response = await requestResponse(path, options);
  output.out(jsonText(response));
  if (response.reason?.startsWith(INTERNAL)) {
    output.err(
      `${printableMessage(`Oneshot verification failed: ${response.reason.slice(INTERNAL.length)}`)}\n`,
    );
  } else {
    await writeFileAtomic(`${path}.verification.json`, jsonText(response, 2), {
      mode: 0o644,
    });
    output.err(`${printable(`Stored verification result at ${path}.verification.json`)}\n`);
  }
  return response.is_valid ? EXIT.good : EXIT.bad;
}

/** `--verify-cert FILE`: an RA-TLS certificate; its attestation must bind the certificate's key. */
export async function oneshotCertificate(
  path: string,
  options: Omit<VerifyOptions, 'now'>,
  output: Output,
): Promise<number> {
  try {
    const bytes = await readInput(path, MAX_REQUEST_BYTES);
    const der = bytes[0] === 0x30 ? bytes : decodePem(utf8Text(bytes), 'CERTIFICATE');
    const { attestation, spki } = parseRaTlsCertificate(der);
    if (!attestation) throw new VerifierError('malformed', 'the certificate carries no attestation');
    const verifiedAt = currentTime();
    const inspection = await inspectAttestation(attestation, {
      ...options,
      now: verifiedAt,
      ratlsSpki: spki,
    });
    if (!inspection.ok) throw inspection.error;
    const { mode, tcbStatus, simulated } = inspection.verified;
    output.out(jsonText({ is_valid: true, mode, tcb_status: tcbStatus, simulated, verified_at: verifiedAt }));
    return EXIT.good;
  } catch (error) {
    if (!isExpected(error)) throw error;
    output.err(`${printableMessage(`certificate verification failed: ${error.message}`)}\n`);
    return EXIT.bad;
  }
}

async function requestResponse(path: string, options: Omit<VerifyOptions, 'now'>): Promise<Response> {
  const now = currentTime();
  try {
    const bytes = await readInput(path, MAX_REQUEST_BYTES);
    return await verifyRequest(parseVerifyRequest(bytes), { ...options, now });
  } catch (error) {
    if (!(error instanceof HttpError) && !(error instanceof VerifierError)) throw error;
    const message = error instanceof HttpError ? `Failed to parse JSON: ${error.message}` : error.message;
    return refusedResponse({ step: 'Internal error', message, code: error.code, checks: [], now });
  }
}

function isExpected(error: unknown): error is Error {
  return (
    error instanceof AttestationError ||
    error instanceof VerifierError ||
    error instanceof RaTlsError ||
    (error instanceof Error && error.name === 'EncodingError')
  );
}
