import { createHash, randomBytes } from 'node:crypto';
import { concatBytes, EncodingError, fromHex, ScaleReader, ScaleWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { pcrPolicyDigest, policyPcr, SEALING_PCRS } from './pcr-policy.ts';
import { SaltedSession } from './salted-session.ts';
import { STORAGE_KEY_HANDLE, storageKey } from './storage-key.ts';
import type { Tpm } from './tpm.ts';
import { createSealed, type LoadedObject, loadObject, unseal } from './tpm-keys.ts';
import { nvDefine, nvRead, nvReadPublic, nvUndefine, nvWrite } from './tpm-nv.ts';
import { readPcrs } from './tpm-pcr.ts';
import { tpmRandom } from './tpm-random.ts';
import { TpmResponseError } from './tpm-response-error.ts';
import { tpm2b } from './tpm-structures.ts';

/** Where dstack keeps the sealed seed. */
export const SEED_NV_INDEX: number = 0x01801101;
const SEED_BYTES = 32;
const MAX_AREA = 1024;
const BANK = 'sha256';
/** keyedHash, fixedTPM, fixedParent, adminWithPolicy and no userWithAuth (chapter 20 section 4.7). */
const SEALED_PREFIX = fromHex('0008000b00000092');
const SEALED_SUFFIX = fromHex('00100000');

export interface SealedSeedOptions {
  /** PCRs of the policy; default `SEALING_PCRS`. All boots of one seed must name the same. */
  readonly pcrs?: readonly number[];
  readonly nvIndex?: number;
  readonly storageKeyHandle?: number;
}

export interface SealedSeed {
  /** 32 bytes, secret. */
  readonly seed: Uint8Array;
  /** Whether it was made now: nothing can be encrypted with it yet. */
  readonly created: boolean;
}

/**
 * The seed that this TPM gives to this measured system alone: made and sealed when there is none, unsealed when there
 * is. A seed that the TPM does not release is an error, never a new seed.
 * @throws AttestationError `mismatch` when the PCRs are not those of the sealing, `device`
 */
export async function openSealedSeed(tpm: Tpm, options: SealedSeedOptions = {}): Promise<SealedSeed> {
  const index = options.nvIndex ?? SEED_NV_INDEX;
  const pcrs = options.pcrs ?? SEALING_PCRS;
  const key = await storageKey(tpm, options.storageKeyHandle ?? STORAGE_KEY_HANDLE);
  const stored = await nvRead(tpm, index);
  const blob = stored && parseBlob(stored);
  if (blob) return { seed: await unsealSeed(tpm, key, blob, pcrs), created: false };
  if (stored) await nvUndefine(tpm, index);
  const seed = await newSeed(tpm);
  const policy = pcrPolicyDigest(BANK, await readPcrs(tpm, BANK, pcrs));
  await store(tpm, index, await sealSeed(tpm, key, seed, policy));
  return { seed, created: true };
}

interface SealedBlob {
  readonly publicArea: Uint8Array;
  readonly privateArea: Uint8Array;
}

/** SCALE: public area, private area. The index may be longer than the blob. */
function parseBlob(stored: Uint8Array): SealedBlob | undefined {
  try {
    const reader = new ScaleReader(stored);
    const publicArea = reader.bytes(MAX_AREA);
    const privateArea = reader.bytes(MAX_AREA);
    return publicArea.length > 0 && privateArea.length > 0 ? { publicArea, privateArea } : undefined;
  } catch (error) {
    if (error instanceof EncodingError) return undefined;
    throw error;
  }
}

/** From the TPM's generator and ours: neither alone, nor who listens to the TPM, decides it. */
async function newSeed(tpm: Tpm): Promise<Uint8Array> {
  const mixed = createHash('sha256')
    .update(await tpmRandom(tpm, SEED_BYTES))
    .update(randomBytes(SEED_BYTES));
  return new Uint8Array(mixed.digest());
}

async function sealSeed(
  tpm: Tpm,
  key: LoadedObject,
  seed: Uint8Array,
  policy: Uint8Array,
): Promise<SealedBlob> {
  const template = concatBytes(SEALED_PREFIX, tpm2b(policy), SEALED_SUFFIX);
  const session = await SaltedSession.start(tpm, key, 'encrypt-command');
  const sealed = await createSealed(tpm, key, template, seed, session);
  await tpm.flush(session.handle);
  return sealed;
}

async function unsealSeed(
  tpm: Tpm,
  key: LoadedObject,
  blob: SealedBlob,
  pcrs: readonly number[],
): Promise<Uint8Array> {
  const object = await loadObject(tpm, key.handle, blob);
  const session = await SaltedSession.start(tpm, key, 'policy');
  await policyPcr(tpm, session.handle, BANK, pcrs);
  try {
    const seed = await unseal(tpm, object, session);
    if (seed.length !== SEED_BYTES) throw new AttestationError('device', 'The sealed seed is not 32 bytes');
    return seed;
  } catch (cause) {
    if (!(cause instanceof TpmResponseError)) throw cause;
    throw new AttestationError(
      'mismatch',
      `The TPM does not release the storage seed: PCRs ${pcrs.join(', ')} are not those of the system that sealed it`,
      { check: 'tpm.seal', found: cause.found, cause },
    );
  } finally {
    await tpm.flush(session.handle);
    await tpm.flush(object.handle);
  }
}

async function store(tpm: Tpm, index: number, { publicArea, privateArea }: SealedBlob): Promise<void> {
  const blob = new ScaleWriter().bytes(publicArea).bytes(privateArea).finish();
  const defined = await nvReadPublic(tpm, index);
  if (defined && defined.size < blob.length) await nvUndefine(tpm, index);
  if (!defined || defined.size < blob.length) await nvDefine(tpm, index, blob.length);
  await nvWrite(tpm, index, blob);
}
