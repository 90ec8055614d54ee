import type { SignatureScheme } from '../crypto/backend.ts';
import { AttestationError } from '../errors.ts';

/** A parsed CertificateList. Nothing about it has been verified. */
export interface CertificateRevocationList {
  readonly der: Uint8Array;
  readonly tbs: Uint8Array;
  readonly scheme: SignatureScheme | undefined;
  readonly signature: Uint8Array;
  /** DER of the Name. */
  readonly issuer: Uint8Array;
  /** Unix seconds. */
  readonly thisUpdate: number;
  readonly nextUpdate: number;
  /** Lower-case hex of the serials' INTEGER contents. */
  readonly revokedSerials: ReadonlySet<string>;
  /** URIs of a critical issuing distribution point; undefined when the list covers all certificates. */
  readonly scopeUrls: readonly string[] | undefined;
}

/** @throws AttestationError `malformed`; also for a delta list, or one without nextUpdate */
export function parseCrl(_der: Uint8Array): CertificateRevocationList {
  throw new AttestationError('unsupported', 'not available');
}
