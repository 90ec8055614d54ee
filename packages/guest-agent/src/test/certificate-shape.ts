import { createHash, X509Certificate } from 'node:crypto';
import { parseCertificate } from '@dstack-cloud/attestation';
import { derOctetString, readDer, toHex } from '@dstack-cloud/encoding';

const OWN_OID = '1.3.6.1.4.1.62397.1.';

/** A leaf certificate in the terms of the recordings: what the shape of each of them says about it. */
export function certificateShape(pem: string): Record<string, unknown> {
  const der = new Uint8Array(new X509Certificate(pem).raw);
  const leaf = parseCertificate(der);
  return {
    notBefore: leaf.notBefore,
    extensions: leaf.extensions.map(({ oid, critical, value }) => {
      const content = oid.startsWith(OWN_OID) ? derOctetString(readDer(value)) : undefined;
      return {
        oid,
        critical,
        ...(content === undefined ? {} : { content: describe(oid, content, leaf.spki) }),
      };
    }),
  };
}

/** The same for a recorded leaf. */
export function recordedCertificateShape(leaf: Record<string, unknown>): Record<string, unknown> {
  const extensions = leaf['extensions'] as {
    oid: string;
    critical: boolean;
    content_hex?: string;
    content_sha256_report_data_zeroed?: string;
    report_data?: string;
  }[];
  return {
    notBefore: Date.parse(leaf['not_before'] as string) / 1000,
    extensions: extensions.map((extension) => {
      const { oid, critical } = extension;
      if (!oid.startsWith(OWN_OID)) return { oid, critical };
      if (oid.endsWith('.8')) {
        const bound = extension.report_data?.startsWith('SHA-512') ?? false;
        return { oid, critical, content: [bound, extension.content_sha256_report_data_zeroed] };
      }
      return { oid, critical, content: appInfoOfOurs(oid, extension.content_hex ?? '') };
    }),
  };
}

function describe(oid: string, content: Uint8Array, spki: Uint8Array): unknown {
  if (!oid.endsWith('.8')) return toHex(content);
  const expected = createHash('sha512').update('ratls-cert:').update(spki).digest('hex');
  // Report data stands in the quote and in the document's own field: offsets of the recordings.
  const zeroed = content.slice();
  for (const offset of [572, 6169]) zeroed.fill(0, offset, offset + 64);
  const bound = toHex(content.subarray(572, 636)) === expected;
  return [bound, createHash('sha256').update(zeroed).digest('hex')];
}

/**
 * The original writes a ninth, empty element; ours leaves it out when there is no init script
 * (docs/protocol/guest-agent.md section 4.2).
 */
function appInfoOfOurs(oid: string, hex: string): string {
  return oid.endsWith('.9') ? `98${hex.slice(2, -2)}` : hex;
}
