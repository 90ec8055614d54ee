import { ByteReader } from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { AttestationError } from '../errors.ts';
import type { SnpProduct } from '../platform-evidence.ts';

export const SNP_REPORT_BYTES = 1184;
/** Offset of the signature: it covers everything before (AMD 56860, table "ATTESTATION_REPORT Structure"). */
export const SNP_SIGNED_BYTES = 0x2a0;

/** TCB version of Milan and Genoa; Turin puts a further part first. */
export interface SnpTcb {
  readonly bytes: Uint8Array;
  readonly bootLoader: number;
  readonly tee: number;
  readonly snp: number;
  readonly microcode: number;
  /** Turin only. */
  readonly fmc: number | undefined;
}

/** Version 4 is laid out as 3, version 5 adds the mitigation vectors (AMD 56860). */
type SnpReportVersion = 2 | 3 | 4 | 5;

/** The fields of an SEV-SNP attestation report that are checked (docs/protocol/evidence.md section 11). */
export interface SnpReport {
  readonly bytes: Uint8Array;
  readonly version: SnpReportVersion;
  readonly policy: bigint;
  readonly vmpl: number;
  readonly signatureAlgorithm: number;
  readonly platformInfo: bigint;
  readonly keyInfo: number;
  /** 64 bytes. */
  readonly reportData: Uint8Array;
  /** 48 bytes. */
  readonly measurement: Uint8Array;
  /** 32 bytes. */
  readonly hostData: Uint8Array;
  /** 8 bytes each. */
  readonly currentTcb: Uint8Array;
  readonly reportedTcb: Uint8Array;
  readonly committedTcb: Uint8Array;
  readonly launchTcb: Uint8Array;
  /** From version 3 on. */
  readonly cpuid: { readonly family: number; readonly model: number; readonly stepping: number } | undefined;
  /** 64 bytes. */
  readonly chipId: Uint8Array;
  /** From version 5 on: mitigations that were in force at launch, and are now. */
  readonly mitigations: { readonly launch: bigint; readonly current: bigint } | undefined;
  /** r‖s, big-endian, 96 bytes. */
  readonly signature: Uint8Array;
}

/**
 * Reads a report, all integers little-endian.
 * @throws AttestationError `malformed` for another length, `unsupported` for versions other than 2 to 5
 */
export function parseSnpReport(bytes: Uint8Array): SnpReport {
  if (bytes.length !== SNP_REPORT_BYTES) {
    throw new AttestationError('malformed', 'SEV-SNP report of another length', {
      expected: String(SNP_REPORT_BYTES),
      found: String(bytes.length),
    });
  }
  return decoding('SEV-SNP report', () => {
    const at = (offset: number): ByteReader => new ByteReader(bytes.subarray(offset));
    const version = at(0).u32le();
    if (!isKnownVersion(version)) {
      throw new AttestationError('unsupported', 'SEV-SNP report of an unsupported version', {
        expected: '2 to 5',
        found: String(version),
      });
    }
    return {
      bytes,
      version,
      policy: at(0x08).u64le(),
      vmpl: at(0x30).u32le(),
      signatureAlgorithm: at(0x34).u32le(),
      platformInfo: at(0x40).u64le(),
      keyInfo: at(0x48).u32le(),
      reportData: at(0x50).take(64),
      measurement: at(0x90).take(48),
      hostData: at(0xc0).take(32),
      currentTcb: at(0x38).take(8),
      reportedTcb: at(0x180).take(8),
      committedTcb: at(0x1e0).take(8),
      launchTcb: at(0x1f0).take(8),
      cpuid:
        version >= 3
          ? { family: at(0x188).u8(), model: at(0x189).u8(), stepping: at(0x18a).u8() }
          : undefined,
      chipId: at(0x1a0).take(64),
      mitigations: version >= 5 ? { launch: at(0x1f8).u64le(), current: at(0x200).u64le() } : undefined,
      signature: readSignature(at(SNP_SIGNED_BYTES)),
    };
  });
}

function isKnownVersion(version: number): version is SnpReportVersion {
  return version >= 2 && version <= 5;
}

/** r and s, 72 bytes little-endian each; P-384 fills 48. The rest of the signature field must be zero. */
function readSignature(reader: ByteReader): Uint8Array {
  const signature = new Uint8Array(96);
  for (const end of [48, 96]) {
    const number = reader.take(72);
    if (number.subarray(48).some((byte) => byte !== 0)) {
      throw new AttestationError('malformed', 'SEV-SNP signature is larger than P-384 allows');
    }
    for (let i = 0; i < 48; i++) signature[end - 1 - i] = number[i]!;
  }
  if (reader.rest().some((byte) => byte !== 0)) {
    throw new AttestationError('malformed', 'SEV-SNP report with bytes after its signature');
  }
  return signature;
}

/**
 * Products by CPUID family and model (docs/protocol/verification.md section 7 step 4); undefined for those that are
 * refused.
 */
export function productOf(cpuid: NonNullable<SnpReport['cpuid']>): SnpProduct | undefined {
  const { family, model } = cpuid;
  if (family === 0x19 && model <= 0x0f) return 'Milan';
  if (family === 0x19 && ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf)))
    return 'Genoa';
  if (family === 0x1a && model <= 0x11) return 'Turin';
  return undefined;
}

/** Parts of a TCB version (docs/protocol/evidence.md section 11; AMD 57230 for Turin, whose FMC comes first). */
export function splitTcb(bytes: Uint8Array, product: SnpProduct): SnpTcb {
  const part = (index: number): number => bytes[index] ?? 0;
  return product === 'Turin'
    ? { bytes, fmc: part(0), bootLoader: part(1), tee: part(2), snp: part(3), microcode: part(7) }
    : { bytes, fmc: undefined, bootLoader: part(0), tee: part(1), snp: part(6), microcode: part(7) };
}
