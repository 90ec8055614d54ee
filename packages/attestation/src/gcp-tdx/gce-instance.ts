import {
  contextTag,
  DerReader,
  derBoolean,
  derInteger,
  derTag,
  derText,
  readDer,
} from '@dstack-cloud/encoding';
import { decoding } from '../decoding.ts';
import { type Certificate, extensionValue } from '../x509/certificate.ts';

/** GCE instance information, which Google puts into the certificates of a machine's TPM keys. */
export const GCE_INSTANCE = '1.3.6.1.4.1.11129.2.1.21';

/** The machine that Google issued a TPM key's certificate to. */
export interface GceInstance {
  readonly zone: string;
  readonly projectId: string;
  readonly instanceId: bigint;
  /** Whether the machine's TPM is that of Google's production; without the member it is not. */
  readonly isProduction: boolean;
}

/**
 * Reads the extension as go-tpm-tools does (`server/instance_info.go`): zone, project number and id, instance id and
 * name, and in `[0]` the security properties.
 * @throws AttestationError `malformed`
 */
export function gceInstance(certificate: Certificate): GceInstance | undefined {
  const value = extensionValue(certificate, GCE_INSTANCE);
  return value && decoding('GCE instance information', () => read(value));
}

function read(value: Uint8Array): GceInstance {
  const outer = readDer(value);
  const fields = new DerReader(outer.contents);
  const zone = derText(fields.next());
  derInteger(fields.next(derTag.integer));
  const projectId = derText(fields.next());
  const instanceId = derInteger(fields.next(derTag.integer));
  derText(fields.next());
  const properties = fields.optional(contextTag(0));
  return {
    zone,
    projectId,
    instanceId,
    isProduction: properties !== undefined && production(properties.contents),
  };
}

/** `SEQUENCE { [0] security version, [1] whether it is production }`, both optional. */
function production(contents: Uint8Array): boolean {
  const fields = new DerReader(readDer(contents).contents);
  fields.optional(contextTag(0));
  const flag = fields.optional(contextTag(1));
  return flag !== undefined && derBoolean(readDer(flag.contents));
}
