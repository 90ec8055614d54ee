import {
  type AttestationError,
  bootInfo,
  type Check,
  inspectAttestation,
  inspectOsImage,
  AttestationError as Refusal,
  type VerifiedAttestation,
  type VerifyOptions,
} from '@dstack-cloud/attestation';
import { appInfoOf } from '../findings/app-info.ts';
import type { AppInfoJson } from '../report.ts';
import { type RequestEvidence, requestEvidence, UndecodableRequest, type VerifyRequest } from './request.ts';
import { type Response, refusedResponse, validResponse } from './response.ts';

/** A failing check of these belongs to the image step, though evidence itself cannot pass without it. */
const IMAGE_CHECK = /^image\.|^nitro\.debug$/;

/**
 * Verifies one request, step by step as the original's service does: quote, OS image, app info. The flags of the
 * answer stand as far as the steps got.
 */
export async function verifyRequest(request: VerifyRequest, options: VerifyOptions): Promise<Response> {
  const { now } = options;
  let evidence: RequestEvidence;
  try {
    evidence = requestEvidence(request);
  } catch (error) {
    if (!(error instanceof UndecodableRequest)) throw error;
    const { message, code } = error;
    return refusedResponse({ step: 'Internal error', message, code, checks: [], now });
  }
  const { attestation, vmConfig } = evidence;
  const inspection = await inspectAttestation(attestation, options);
  if (!inspection.ok) {
    const { error, checks } = inspection;
    const step = IMAGE_CHECK.test(error.check ?? '')
      ? 'OS image hash verification failed'
      : 'Quote verification failed';
    return refused(step, error, checks, now);
  }
  const { verified } = inspection;
  const beside = vmConfig === undefined ? {} : { vmConfig };
  const image = await inspectOsImage(verified, beside);
  const checks = [...inspection.checks, ...image.checks];
  if (!image.ok) return refused('OS image hash verification failed', image.error, checks, now, verified);
  let appInfo: AppInfoJson;
  try {
    appInfo = appInfoOf(bootInfo(verified, { bootTime: false, ...beside }), verified);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return refused('Event log verification failed', error, checks, now, verified);
  }
  return validResponse(verified, appInfo, checks, now);
}

function refused(
  step: 'Quote verification failed' | 'OS image hash verification failed' | 'Event log verification failed',
  error: AttestationError,
  checks: readonly Check[],
  now: number,
  verified?: VerifiedAttestation,
): Response {
  return refusedResponse({
    step,
    message: error.message,
    code: error.code,
    checks,
    now,
    ...(verified ? { verified } : {}),
  });
}
