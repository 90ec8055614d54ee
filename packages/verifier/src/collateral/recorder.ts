import {
  boundMethods,
  type CollateralSource,
  dcapCollateralToJson,
  type SnpCollateral,
  tpmCollateralToJson,
} from '@dstack-cloud/attestation';
import { toBase64 } from '@dstack-cloud/encoding';

/** What was handed out while evidence was verified, as JSON for a bundle. */
export interface RecordedCollateral {
  readonly documents: readonly unknown[];
  readonly snp: readonly { readonly ask: string; readonly vcek: string; readonly crl?: string }[];
  readonly pck_certificates: readonly string[];
  readonly crls: Readonly<Record<string, string>>;
}

/** A source that passes requests on and keeps the answers. */
export function recordingSource(inner: CollateralSource): {
  readonly source: CollateralSource;
  readonly recorded: () => RecordedCollateral;
} {
  const bound = boundMethods(inner);
  const documents: unknown[] = [];
  const snp: RecordedCollateral['snp'][number][] = [];
  const certificates: string[] = [];
  const crls: Record<string, string> = {};
  const { pckCertificate, tpm, snp: snpSource, crl } = bound;
  const source: CollateralSource = {
    ...bound,
    tdx: async (request, permit) =>
      keep(await bound.tdx(request, permit), (value) => documents.push(dcapCollateralToJson(value))),
    ...(pckCertificate && {
      pckCertificate: async (request, permit) =>
        keep(await pckCertificate(request, permit), (pem) => certificates.push(pem)),
    }),
    ...(tpm && {
      tpm: async (request, permit) =>
        keep(await tpm(request, permit), (value) => documents.push(tpmCollateralToJson(value))),
    }),
    ...(snpSource && {
      snp: async (request, permit) =>
        keep(await snpSource(request, permit), (value) => snp.push(snpJson(value))),
    }),
    ...(crl && {
      crl: async (url) =>
        keep(await crl(url), (value) => {
          crls[url] = toBase64(value);
        }),
    }),
  };
  return { source, recorded: () => ({ documents, snp, pck_certificates: certificates, crls }) };
}

function keep<T>(value: T, record: (value: T) => unknown): T {
  record(value);
  return value;
}

function snpJson({ ask, vcek, crl }: SnpCollateral): RecordedCollateral['snp'][number] {
  return { ask: toBase64(ask), vcek: toBase64(vcek), ...(crl ? { crl: toBase64(crl) } : {}) };
}
