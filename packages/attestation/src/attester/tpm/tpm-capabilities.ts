import { ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';

const CAP_HANDLES = 1;
const CAP_TPM_PROPERTIES = 6;
const CAP_PCRS = 5;
const PT_FIXED = 0x100;
const MAX_ITEMS = 256;

/** TPM_PT_MANUFACTURER and the firmware version, as the TPM names itself. */
export interface TpmIdentity {
  /** Four characters, e.g. `IBM `. */
  readonly manufacturer: string;
  readonly firmwareVersion: bigint;
}

const PT_MANUFACTURER = 0x105;
const PT_FIRMWARE_1 = 0x10b;
const PT_FIRMWARE_2 = 0x10c;

/** Who made this TPM. @throws AttestationError `device` */
export async function tpmIdentity(tpm: Tpm): Promise<TpmIdentity> {
  const reader = await capability(tpm, CAP_TPM_PROPERTIES, PT_FIXED, 32);
  const count = bounded(reader.u32be());
  const values = new Map<number, number>();
  for (let i = 0; i < count; i++) values.set(reader.u32be(), reader.u32be());
  reader.finish();
  const manufacturer = values.get(PT_MANUFACTURER) ?? 0;
  return {
    manufacturer: String.fromCharCode(
      ...[24, 16, 8, 0].map((shift) => (manufacturer >>> shift) & 0x7f || 0x20),
    ),
    firmwareVersion: (BigInt(values.get(PT_FIRMWARE_1) ?? 0) << 32n) | BigInt(values.get(PT_FIRMWARE_2) ?? 0),
  };
}

/** Handles in use from `first` on, within its kind: loaded objects, NV indices, persistent objects. */
export async function tpmHandles(tpm: Tpm, first: number): Promise<number[]> {
  const reader = await capability(tpm, CAP_HANDLES, first, MAX_ITEMS);
  const handles = Array.from({ length: bounded(reader.u32be()) }, () => reader.u32be());
  reader.finish();
  return handles;
}

/** TPM_ALG_ID of the banks that have PCRs. */
export async function tpmPcrBanks(tpm: Tpm): Promise<number[]> {
  const reader = await capability(tpm, CAP_PCRS, 0, 16);
  const banks: number[] = [];
  const count = bounded(reader.u32be());
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16be();
    if (reader.take(reader.u8()).some((byte) => byte !== 0)) banks.push(algorithm);
  }
  reader.finish();
  return banks;
}

async function capability(tpm: Tpm, kind: number, property: number, count: number) {
  const { parameters } = await tpm.execute({
    code: 'getCapability',
    parameters: new ByteWriter().u32be(kind).u32be(property).u32be(count).finish(),
  });
  parameters.u8(); // moreData: what is asked for here is never more than one answer holds
  if (parameters.u32be() !== kind) throw new AttestationError('device', 'The TPM gave another capability');
  return parameters;
}

function bounded(count: number): number {
  if (count <= MAX_ITEMS) return count;
  throw new AttestationError('device', `The TPM lists ${count} items`);
}
