import type { Attestation, TpmSignature } from '@dstack-cloud/attestation';

/** A TPM2_Quote as open tools store it in JSON: all parts beside each other. */
export interface TpmQuoteJson {
  /** TPMS_ATTEST. */
  readonly message: Uint8Array;
  readonly signature: TpmSignature;
  readonly bank: 'sha256' | 'sha384';
  /** In ascending order. */
  readonly pcrs: readonly { readonly index: number; readonly value: Uint8Array }[];
  /** x‖y of the attestation key. */
  readonly key: Uint8Array;
  /** The qualifying data that was asked for, if stored. */
  readonly nonce: Uint8Array | undefined;
}

/** What was recognised in a file or request, unverified. */
export type EvidenceBody =
  | {
      readonly kind: 'attestation';
      readonly attestation: Attestation;
      /** Configuration that came beside the evidence. */
      readonly vmConfig?: string;
      /** Text of the `app-compose.json` that came beside the evidence, as a guest agent shows it. */
      readonly appCompose?: string;
      /** SubjectPublicKeyInfo of the RA-TLS certificate that carried it. */
      readonly ratlsSpki?: Uint8Array;
    }
  | { readonly kind: 'quote'; readonly quote: Uint8Array }
  | { readonly kind: 'nitro-document'; readonly document: Uint8Array }
  | { readonly kind: 'nitro-tpm-document'; readonly document: Uint8Array; readonly tpm?: TpmQuoteJson }
  | { readonly kind: 'snp-report'; readonly report: Uint8Array }
  | { readonly kind: 'gcp-vtpm'; readonly tpm: TpmQuoteJson; readonly certChainPem: string };

/** Evidence and the form in which it was found, e.g. `quote-hex` or `versioned-attestation-v1`. */
export type Evidence = EvidenceBody & { readonly form: string };
