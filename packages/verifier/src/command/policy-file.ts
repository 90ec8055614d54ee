import { AppError, parseStrictJson, table } from '@dstack-cloud/app';
import { snpPolicyFromConfig, TCB_STATUSES } from '@dstack-cloud/attestation';
import { z } from 'zod';
import { VerifierError } from '../errors.ts';
import type { VerifierPolicy } from '../policy/appraise.ts';
import { readInput } from './read-input.ts';

const MAX_POLICY_BYTES = 1024 * 1024;

const svn = z.number().int().min(0).max(255).optional();
const tcb = z.strictObject({ fmc: svn, boot_loader: svn, tee: svn, snp: svn, microcode: svn }).optional();

const Schema = z.strictObject({
  accepted_statuses: z.array(z.enum(TCB_STATUSES)).optional(),
  accepted_advisories: z.array(z.string()).optional(),
  minimum_tcb_evaluation_data_number: z.number().int().nonnegative().optional(),
  grace_period_seconds: z.number().int().nonnegative().optional(),
  snp: z
    .strictObject({
      minimum_tcb: z.strictObject({ Milan: tcb, Genoa: tcb, Turin: tcb }).optional(),
      accept_unchecked_aliases: z.boolean().optional(),
    })
    .optional(),
  expect: table(z.string()).optional(),
});

/** Reads a local policy, JSON. @throws VerifierError naming the member that is wrong */
export async function readPolicyFile(path: string): Promise<VerifierPolicy> {
  const bytes = await readInput(path, MAX_POLICY_BYTES);
  let json: unknown;
  try {
    // A member that comes twice is an error: of two expectations nobody knows which was meant.
    json = parseStrictJson(new TextDecoder().decode(bytes));
  } catch (cause) {
    if (!(cause instanceof AppError)) throw cause;
    throw new VerifierError('config', `${path}: ${cause.message}`, { cause });
  }
  const parsed = Schema.safeParse(json);
  if (!parsed.success) throw new VerifierError('config', `${path}: ${z.prettifyError(parsed.error)}`);
  const { data } = parsed;
  return {
    ...(data.accepted_statuses ? { acceptedStatuses: data.accepted_statuses } : {}),
    ...(data.accepted_advisories ? { acceptedAdvisories: data.accepted_advisories } : {}),
    ...(data.minimum_tcb_evaluation_data_number === undefined
      ? {}
      : { minimumTcbEvaluationDataNumber: data.minimum_tcb_evaluation_data_number }),
    ...(data.grace_period_seconds === undefined ? {} : { gracePeriodSeconds: data.grace_period_seconds }),
    ...(data.snp ? { snp: snpPolicyFromConfig(data.snp) } : {}),
    ...(data.expect ? { expect: data.expect } : {}),
  };
}
