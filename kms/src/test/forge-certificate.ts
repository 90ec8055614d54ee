import { sign } from 'node:crypto';
import { der } from '@dstack-cloud/encoding';
import type { P256Key } from '@dstack-cloud/keys';
import { certificatePem } from '@dstack-cloud/ra-tls';

/** Our private extensions, content as given. */
export type ForgedExtension = { readonly oid: string; readonly content: Uint8Array; readonly wraps?: 1 | 2 };

/** A certificate with any extensions, also ones that no honest issuer writes; PEM. */
export function forgeCertificate(
  key: P256Key,
  extensions: readonly ForgedExtension[],
  options: { issuerKey?: P256Key; issuerName?: string; notAfter?: number } = {},
): string {
  const algorithm = der.sequence(der.oid('1.2.840.10045.4.3.2'));
  const name = (text: string, organization?: string): Uint8Array =>
    der.sequence(
      ...(organization === undefined
        ? []
        : [der.set(der.sequence(der.oid('2.5.4.10'), der.utf8String(organization)))]),
      der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(text))),
    );
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(4711),
    algorithm,
    options.issuerKey === undefined
      ? name('forged')
      : name(options.issuerName ?? 'Dstack Client Temp CA', 'Dstack'),
    der.sequence(der.time(157_766_400), der.time(options.notAfter ?? 2_000_000_000)),
    name('forged'),
    key.spki,
    der.explicit(
      3,
      der.sequence(
        ...extensions.map(({ oid, content, wraps = 2 }) =>
          der.sequence(der.oid(oid), der.octetString(wraps === 2 ? der.octetString(content) : content)),
        ),
      ),
    ),
  );
  const signature = sign('sha256', tbs, (options.issuerKey ?? key).privateKey);
  return certificatePem(der.sequence(tbs, algorithm, der.bitString(new Uint8Array(signature))));
}
