import { createHash, randomBytes } from 'node:crypto';
import { concatBytes, equalBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { approvalPolicyDigest, policyAuthorize, policyOr, policyOrDigest } from './approval-policy.ts';
import { pcrPolicyDigest, policyPcr, SEALING_PCRS } from './pcr-policy.ts';
import { requireSealedByItsSystem } from './require-sealed-by-its-system.ts';
import { SaltedSession } from './salted-session.ts';
import { approvalReference, isApprovedBy, type SealApproval } from './seal-approval.ts';
import { approverHash, formatSealRequest, SEALED_PCR_NAMES } from './seal-request.ts';
import type { SealedBlob } from './sealed-blob.ts';
import { keepOnly, readSeals, type StoredSeal, writeSeal } from './sealed-slots.ts';
import { storageKey } from './storage-key.ts';
import type { Tpm } from './tpm.ts';
import { createSealed, type LoadedObject, loadObject, unseal } from './tpm-keys.ts';
import { type PcrReading, readPcrs } from './tpm-pcr.ts';
import { tpmRandom } from './tpm-random.ts';
import { TpmResponseError } from './tpm-response-error.ts';
import { pcrSelection, tpm2b } from './tpm-structures.ts';

const SEED_BYTES = 32;
const BANK = 'sha256';
/** keyedHash, fixedTPM, fixedParent, adminWithPolicy and no userWithAuth: nothing but its policy opens it. */
const SEALED_PREFIX = fromHex('0008000b00000092');
const SEALED_SUFFIX = fromHex('00100000');
/** TPM_RC_POLICY_FAIL and TPM_RC_VALUE: registers or an approval that do not fit. */
const POLICY_FAIL = 0x9d;
const VALUE = 0x84;

export interface SealedSeedOptions {
  /** SPKI DER of the P-256 key that may approve another system for this seed; none when absent or empty. */
  readonly approver?: Uint8Array;
  /** An approval for this system, if the host gave one. It needs no trust: the TPM checks it. */
  readonly approval?: SealApproval;
}

export interface SealedSeed {
  /** 32 bytes, secret. */
  readonly seed: Uint8Array;
  /**
   * `created`: made now, nothing can be encrypted with it yet; `opened`: by the registers that it was sealed to;
   * `resealed`: by an approval, and sealed to this system now.
   */
  readonly how: 'created' | 'opened' | 'resealed';
  /** How often the seed was sealed. */
  readonly number: number;
}

/**
 * The seed that this TPM gives to this measured system alone: made and sealed when there is none, unsealed when there
 * is. Another system gets it with an approval that is signed by the key which both the seal and its own application
 * name, and has it sealed to itself then; the new seal is written and tried before the old one is removed. A seed that the TPM does not release is an
 * error, never a new seed.
 * @throws AttestationError `mismatch` naming the registers that changed and why there is no approval for them;
 *   `malformed` for NV memory that holds no seal; `device`
 */
export async function openSealedSeed(tpm: Tpm, options: SealedSeedOptions = {}): Promise<SealedSeed> {
  const key = await storageKey(tpm);
  const seals = await readSeals(tpm);
  const now = await readPcrs(tpm, BANK, SEALING_PCRS);
  for (const stored of seals) {
    await requireSealedByItsSystem(tpm, key, stored.blob);
    const seed = await unsealByRegisters(tpm, key, stored.blob);
    if (seed === undefined) continue;
    await keepOnly(tpm, stored);
    return { seed, how: 'opened', number: stored.blob.number };
  }
  const [newest] = seals;
  if (newest === undefined) {
    const seed = await newSeed(tpm);
    await sealAndTry(tpm, key, { seed, number: 1, pcrs: now, approver: options.approver });
    return { seed, how: 'created', number: 1 };
  }
  const approval = requireApproval(newest.blob, now, options);
  const seed = await unsealByApproval(tpm, key, newest.blob, approval);
  const { number } = approval;
  const next = { seed, number, pcrs: now, approver: options.approver, present: newest };
  await keepOnly(tpm, await sealAndTry(tpm, key, next));
  return { seed, how: 'resealed', number };
}

/** What this system's registers would be sealed to: what an owner approves. */
export async function presentPolicy(tpm: Tpm): Promise<{ policy: Uint8Array; pcrs: readonly PcrReading[] }> {
  const pcrs = await readPcrs(tpm, BANK, SEALING_PCRS);
  return { policy: pcrPolicyDigest(BANK, pcrs), pcrs };
}

/** From the TPM's generator and ours: neither alone, nor who listens to the TPM, decides it. */
async function newSeed(tpm: Tpm): Promise<Uint8Array> {
  const mixed = createHash('sha256')
    .update(await tpmRandom(tpm, SEED_BYTES))
    .update(randomBytes(SEED_BYTES));
  return new Uint8Array(mixed.digest());
}

/** Branches of a seal's policy: the registers, and the approval for the next seal where there is an approver. */
function branches({
  pcrs,
  approver,
  number,
}: Pick<SealedBlob, 'pcrs' | 'approver' | 'number'>): Uint8Array[] {
  const registers = pcrPolicyDigest(BANK, pcrs);
  if (approver.length === 0) return [registers];
  return [registers, approvalPolicyDigest(approver, approvalReference(number + 1))];
}

/** Seals, writes beside the present seal, and opens what was written: only then may the present one go. */
async function sealAndTry(
  tpm: Tpm,
  key: LoadedObject,
  {
    seed,
    number,
    pcrs,
    approver = new Uint8Array(),
    present,
  }: {
    readonly seed: Uint8Array;
    readonly number: number;
    readonly pcrs: readonly PcrReading[];
    readonly approver: Uint8Array | undefined;
    readonly present?: StoredSeal;
  },
): Promise<StoredSeal> {
  const either = branches({ pcrs, approver, number });
  const policy = either.length === 1 ? either[0]! : policyOrDigest(either);
  const template = concatBytes(SEALED_PREFIX, tpm2b(policy), SEALED_SUFFIX);
  const session = await SaltedSession.start(tpm, key, 'encrypt-command');
  const atCreation = pcrSelection(BANK, SEALING_PCRS);
  const areas = await createSealed(tpm, key, template, seed, session, atCreation);
  await tpm.flush(session.handle);
  await writeSeal(tpm, { ...areas, number, pcrs, approver }, present);
  const written = (await readSeals(tpm)).find(({ blob }) => blob.number === number);
  // Also that a later boot will believe it: nothing is encrypted with the seed yet.
  if (written !== undefined) await requireSealedByItsSystem(tpm, key, written.blob);
  const back = written && (await unsealByRegisters(tpm, key, written.blob));
  if (written === undefined || back === undefined || !equalBytes(back, seed))
    throw new AttestationError(
      'device',
      'The TPM does not give back what was just sealed; the machine keeps its old seal',
      {
        check: 'tpm.seal',
      },
    );
  back.fill(0);
  return written;
}

/** The seed for the registers as they are; undefined when they are not those of the seal. */
async function unsealByRegisters(
  tpm: Tpm,
  key: LoadedObject,
  blob: SealedBlob,
): Promise<Uint8Array | undefined> {
  return await unsealWith(tpm, key, blob, async (session) => {
    await policyPcr(
      tpm,
      session,
      BANK,
      blob.pcrs.map(({ index }) => index),
    );
  });
}

async function unsealByApproval(
  tpm: Tpm,
  key: LoadedObject,
  blob: SealedBlob,
  approval: SealApproval,
): Promise<Uint8Array> {
  const seed = await unsealWith(tpm, key, blob, async (session) => {
    await policyPcr(tpm, session, BANK, SEALING_PCRS);
    await policyAuthorize(tpm, session, blob.approver, approval);
  });
  if (seed !== undefined) return seed;
  throw new AttestationError('mismatch', 'The TPM does not accept the approval for this system', {
    check: 'tpm.seal',
    found: `approval ${approval.number}`,
  });
}

async function unsealWith(
  tpm: Tpm,
  key: LoadedObject,
  blob: SealedBlob,
  meet: (session: number) => Promise<void>,
): Promise<Uint8Array | undefined> {
  const either = branches(blob);
  const object = await loadObject(tpm, key.handle, blob);
  const session = await SaltedSession.start(tpm, key, 'policy');
  try {
    await meet(session.handle);
    if (either.length > 1) await policyOr(tpm, session.handle, either);
    const seed = await unseal(tpm, object, session);
    if (seed.length !== SEED_BYTES) throw new AttestationError('device', 'The sealed seed is not 32 bytes');
    return seed;
  } catch (error) {
    // Only these say that the registers are others. A busy or locked TPM says nothing about the system.
    if (error instanceof TpmResponseError && [POLICY_FAIL, VALUE].includes(error.baseCode)) return undefined;
    throw error;
  } finally {
    await tpm.flush(session.handle);
    await tpm.flush(object.handle);
  }
}

/** The approval, if it fits; the TPM decides again, but cannot say what is wrong. */
function requireApproval(
  blob: SealedBlob,
  now: readonly PcrReading[],
  { approval, approver = new Uint8Array() }: SealedSeedOptions,
): SealApproval {
  const changed = now.filter(({ index, value }) => {
    const sealed = blob.pcrs.find((one) => one.index === index);
    return sealed === undefined || !equalBytes(sealed.value, value);
  });
  const policy = pcrPolicyDigest(BANK, now);
  const wanted = `approval ${blob.number + 1} of policy ${toHex(policy)}`;
  // The host may know all of this: whoever approves sees it there.
  const request = { number: blob.number + 1, policy, keyHash: approverHash(blob.approver), pcrs: now };
  const remedy = blob.approver.length === 0 ? '' : `; the owner may give ${formatSealRequest(request)}`;
  const refuse = (why: string, expected: string, found: string): AttestationError =>
    new AttestationError(
      'mismatch',
      `The TPM does not release the storage seed: ${describeChange(blob, changed)}, and ${why}${remedy}`,
      { check: 'tpm.seal', expected, found },
    );
  if (blob.approver.length === 0)
    throw refuse(
      'it was sealed without a key that could approve another system',
      'the sealed registers',
      toHex(policy),
    );
  if (approval === undefined) throw refuse('there is no approval for this system', wanted, 'none');
  if (!isApprovedBy(blob.approver, approval))
    throw refuse('the approval is not signed by the key that the seal names', wanted, 'another signature');
  if (approval.number !== blob.number + 1)
    throw refuse(`the approval has another number; each serves once`, wanted, `approval ${approval.number}`);
  if (!equalBytes(approval.policy, policy))
    throw refuse('the approval is for another system', wanted, `policy ${toHex(approval.policy)}`);
  // A key that the measured application does not name may be that of whoever left the seal.
  if (!equalBytes(blob.approver, approver))
    throw refuse(
      'the seal names another key than this application for approvals',
      approver.length === 0 ? 'no key' : `key ${toHex(approverHash(approver))}`,
      `key ${toHex(approverHash(blob.approver))}`,
    );
  return approval;
}

function describeChange(blob: SealedBlob, changed: readonly PcrReading[]): string {
  if (changed.length === 0) return 'its registers are those of the seal but its policy is another';
  const parts = changed.map(({ index, value }) => {
    const sealed = blob.pcrs.find((one) => one.index === index);
    return `PCR ${index} (${SEALED_PCR_NAMES[index] ?? 'other'}) was ${sealed ? toHex(sealed.value) : 'not sealed'} and is ${toHex(value)}`;
  });
  return parts.join('; ');
}
