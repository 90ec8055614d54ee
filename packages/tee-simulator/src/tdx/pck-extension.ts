import { der } from '@dstack-cloud/encoding';
import { certificateExtension } from '../pki/certificate.ts';

const SGX = '1.2.840.113741.1.13.1';
const ENUMERATED = 0x0a;

export interface PckIdentity {
  /** 16 bytes. */
  readonly ppid: Uint8Array;
  /** 16 bytes. */
  readonly cpuSvn: Uint8Array;
  readonly pceSvn: number;
  /** 2 bytes. */
  readonly pceId: Uint8Array;
  /** 6 bytes. */
  readonly fmspc: Uint8Array;
  /** 16 bytes. */
  readonly platformInstanceId: Uint8Array;
}

/** The SGX extension of a PCK certificate of a multi-package platform (Intel SGX PCK certificate profile, 1.3.5). */
export function pckExtension(identity: PckIdentity): Uint8Array {
  const field = (arc: string, value: Uint8Array) => der.sequence(der.oid(`${SGX}.${arc}`), value);
  const components = Array.from(identity.cpuSvn, (svn, i) => field(`2.${i + 1}`, der.integer(svn)));
  const value = der.sequence(
    field('1', der.octetString(identity.ppid)),
    field(
      '2',
      der.sequence(
        ...components,
        field('2.17', der.integer(identity.pceSvn)),
        field('2.18', der.octetString(identity.cpuSvn)),
      ),
    ),
    field('3', der.octetString(identity.pceId)),
    field('4', der.octetString(identity.fmspc)),
    field('5', der.raw(ENUMERATED, Uint8Array.of(1))),
    field('6', der.octetString(identity.platformInstanceId)),
    field(
      '7',
      der.sequence(
        field('7.1', der.boolean(true)),
        field('7.2', der.boolean(false)),
        field('7.3', der.boolean(true)),
      ),
    ),
  );
  return certificateExtension(SGX, value);
}
