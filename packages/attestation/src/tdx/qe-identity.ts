import { AttestationError } from '../errors.ts';
import { JsonFields, parseJson } from '../json-fields.ts';
import { MAX_SIGNED_JSON, readSvnLevels, type SvnLevel } from './tcb-info.ts';

/** What Intel says its quoting enclave looks like (Intel PCS API v4, "Get Quoting Enclave Identity"). */
export interface QeIdentity {
  readonly id: string;
  readonly version: number;
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly tcbEvaluationDataNumber: number;
  /** 4 bytes in memory order. */
  readonly miscSelect: Uint8Array;
  readonly miscSelectMask: Uint8Array;
  /** 16 bytes. */
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
  /** 32 bytes. */
  readonly mrSigner: Uint8Array;
  readonly isvProdId: number;
  /** Highest isvSvn first. */
  readonly levels: readonly SvnLevel[];
}

/** Reads the text of an `enclaveIdentity` value. @throws AttestationError `malformed`, `too-large` */
export function parseQeIdentity(text: string): QeIdentity {
  const identity = new JsonFields(parseJson(text, 'QE identity', MAX_SIGNED_JSON), 'enclaveIdentity');
  return {
    id: identity.text('id'),
    version: identity.integer('version'),
    issueDate: identity.time('issueDate'),
    nextUpdate: identity.time('nextUpdate'),
    tcbEvaluationDataNumber: identity.integer('tcbEvaluationDataNumber'),
    miscSelect: identity.hex('miscselect', 4),
    miscSelectMask: identity.hex('miscselectMask', 4),
    attributes: identity.hex('attributes', 16),
    attributesMask: identity.hex('attributesMask', 16),
    mrSigner: identity.hex('mrsigner', 32),
    isvProdId: identity.integer('isvprodid', 0xffff),
    levels: readSvnLevels(identity),
  };
}

/** Identities which may vouch for the quoting enclave of a TEE (docs/protocol/verification.md section 2.2 step 4). */
const ACCEPTED = {
  tdx: { id: 'TD_QE', versions: [2, 3] },
  sgx: { id: 'QE', versions: [2] },
} as const;

/** @throws AttestationError `collateral-invalid` */
export function checkQeIdentityKind(identity: QeIdentity, tee: 'tdx' | 'sgx'): void {
  const accepted = ACCEPTED[tee];
  const versions: readonly number[] = accepted.versions;
  if (identity.id === accepted.id && versions.includes(identity.version)) return;
  throw new AttestationError('collateral-invalid', 'The QE identity is not of this kind of quote', {
    expected: `${accepted.id} version ${versions.join(' or ')}`,
    found: `${identity.id} version ${identity.version}`,
  });
}
