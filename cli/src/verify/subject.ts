import { resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import {
  type Bundle,
  evidenceAddress,
  fetchEvidence,
  isUrl,
  MAX_EVIDENCE_BYTES,
  openBundle,
  VerifierError,
} from '@dstack-cloud/verifier';
import { CliError, EXIT } from '../errors.ts';

/** Evidence as somebody handed it over; nothing of it is believed yet. */
export interface Subject {
  readonly source: string;
  readonly evidence: Uint8Array;
  /** Ours, when the evidence was asked for just now. */
  readonly nonce?: Uint8Array;
  /** Of a file: it brings time and collateral along, as the reader of the file chose. */
  readonly bundle?: Bundle;
}

/**
 * Gets evidence from a guest agent with a fresh nonce, or reads it from a file.
 * @throws CliError `unreachable`, `bad_argument`; AppError for a file that cannot be read
 */
export async function getSubject(target: string, directory: string): Promise<Subject> {
  return /^https?:/i.test(target) ? await fromAgent(target) : await fromFile(resolve(directory, target));
}

/** What comes from an address is the prover's: evidence over our nonce, never a bundle. */
async function fromAgent(target: string): Promise<Subject> {
  const address = isUrl(target) ? evidenceAddress(target) : undefined;
  const { nonce } = address ?? {};
  if (address === undefined || nonce === undefined) {
    throw new CliError('bad_argument', `${target} is not the address of a guest agent`, {
      expected: 'http://HOST:PORT or http://HOST:PORT/attestation, without a nonce',
      hint: 'What lies at another address may be a recording: save it, and verify the file',
      exitCode: EXIT.usage,
    });
  }
  try {
    return { source: target, evidence: await fetchEvidence(address), nonce };
  } catch (error) {
    if (!(error instanceof VerifierError)) throw error;
    throw new CliError('unreachable', `No evidence: ${error.message}`, {
      hint: 'Name the address of the guest agent (dstack-cloud status prints it), not that of the app',
      cause: error,
    });
  }
}

async function fromFile(path: string): Promise<Subject> {
  const file = await readFileBounded(path, MAX_EVIDENCE_BYTES);
  const bundle = openBundle(file);
  return bundle === undefined
    ? { source: path, evidence: file }
    : { source: path, evidence: bundle.evidence, bundle };
}
