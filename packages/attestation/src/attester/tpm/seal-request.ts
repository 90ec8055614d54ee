import { createHash } from 'node:crypto';
import { equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { pcrPolicyDigest, SEALING_PCRS } from './pcr-policy.ts';
import type { PcrReading } from './tpm-pcr.ts';

const BANK = 'sha256';
const MAX_NUMBER = 0xffff_ffff;
const HEX = '[0-9a-f]{64}';
const FORM = new RegExp(
  `approval (\\d{1,10}) of policy (${HEX}) by key (${HEX}) for PCRs ((?:\\d{1,2}=${HEX} ?)+)`,
  'g',
);

/** What each register of a seal has. */
export const SEALED_PCR_NAMES: Readonly<Record<number, string>> = {
  0: 'firmware',
  2: 'boot components',
  4: 'boot applications',
  12: 'additions of the boot stub',
  13: 'system extensions',
  14: 'application',
};

/** The approval that a refused system would need. It comes through the host: whoever signs checks the registers. */
export interface SealRequest {
  readonly number: number;
  /** Digest of the policy over `pcrs`. */
  readonly policy: Uint8Array;
  /** SHA-256 of the SPKI DER of the key that has to sign. */
  readonly keyHash: Uint8Array;
  readonly pcrs: readonly PcrReading[];
}

/** As a refusal has it. */
export function formatSealRequest({ number, policy, keyHash, pcrs }: SealRequest): string {
  const registers = pcrs.map(({ index, value }) => `${index}=${toHex(value)}`).join(' ');
  return `approval ${number} of policy ${toHex(policy)} by key ${toHex(keyHash)} for PCRs ${registers}`;
}

/**
 * The last request in a text, such as the log of a machine.
 *
 * @returns undefined when there is none
 * @throws AttestationError `malformed`, `mismatch` when it names other registers than a seal has, or a policy that is
 *   not the one over its registers
 */
export function findSealRequest(text: string): SealRequest | undefined {
  const found = [...text.matchAll(FORM)].at(-1);
  if (found === undefined) return undefined;
  const [, number = '', policy = '', keyHash = '', registers = ''] = found;
  const pcrs = registers
    .trim()
    .split(' ')
    .map((one) => {
      const [index = '', value = ''] = one.split('=');
      return { index: Number(index), value: fromHex(value) };
    });
  const request = { number: Number(number), policy: fromHex(policy), keyHash: fromHex(keyHash), pcrs };
  if (request.number < 1 || request.number > MAX_NUMBER)
    throw new AttestationError('malformed', `The request has number ${number}, which no approval can have`);
  if (pcrs.map(({ index }) => index).join() !== SEALING_PCRS.join())
    throw new AttestationError('malformed', 'The request names other registers than a seal is bound to', {
      check: 'tpm.seal',
      expected: SEALING_PCRS.join(', '),
      found: pcrs.map(({ index }) => index).join(', '),
    });
  const computed = pcrPolicyDigest(BANK, pcrs);
  if (!equalBytes(computed, request.policy))
    throw new AttestationError('mismatch', 'The policy of the request is not the one over its registers', {
      check: 'tpm.seal',
      expected: toHex(computed),
      found: policy,
    });
  return request;
}

/** SHA-256 of a key in SPKI DER: its name in requests. */
export function approverHash(spki: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(spki).digest());
}
