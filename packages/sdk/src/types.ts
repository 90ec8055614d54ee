/** Texts are their UTF-8 bytes. */
export type Data = string | Uint8Array;

/** An entry of an event log. */
export interface EventLogEntry {
  readonly imr: number;
  readonly event_type: number;
  readonly digest: string;
  readonly event: string;
  readonly event_payload: string;
}

export interface TcbInfo {
  readonly mrtd: string;
  readonly rtmr0: string;
  readonly rtmr1: string;
  readonly rtmr2: string;
  readonly rtmr3: string;
  readonly mr_aggregated: string;
  readonly os_image_hash: string;
  readonly compose_hash: string;
  readonly device_id: string;
  readonly app_compose: string;
  readonly event_log: readonly EventLogEntry[];
}

export interface InfoResponse {
  readonly app_id: string;
  readonly instance_id: string;
  readonly app_cert: string;
  readonly tcb_info: TcbInfo;
  readonly app_name: string;
  readonly device_id: string;
  readonly mr_aggregated: string;
  readonly os_image_hash: string;
  readonly key_provider_info: string;
  readonly compose_hash: string;
  readonly vm_config: string;
  readonly cloud_vendor: string;
  readonly cloud_product: string;
}

export interface GetKeyResponse {
  readonly __name__: 'GetKeyResponse';
  /** 32 bytes: secp256k1 secret or Ed25519 seed. */
  readonly key: Uint8Array;
  /** Signed by the application's root key, which the key service signed; see `verifySignatureChain`. */
  readonly signature_chain: readonly Uint8Array[];
}

export interface GetTlsKeyResponse {
  readonly __name__: 'GetTlsKeyResponse';
  /** PEM PKCS#8. */
  readonly key: string;
  /** PEM, leaf first. */
  readonly certificate_chain: readonly string[];
  /** DER of the key, or as much of it as asked for. No secret to make accounts of: its first bytes are the same for everybody. */
  asUint8Array(maxLength?: number): Uint8Array;
}

export interface GetQuoteResponse {
  readonly quote: string;
  readonly event_log: string;
  readonly report_data: string;
  readonly vm_config: string;
  /** What the registers must be by the event log; hex. */
  replayRtmrs(): Record<0 | 1 | 2 | 3, string>;
}

export interface AttestResponse {
  /** Versioned attestation of this platform, hex. */
  readonly attestation: string;
}

export interface SignResponse {
  readonly signature: Uint8Array;
  readonly signature_chain: readonly Uint8Array[];
  readonly public_key: Uint8Array;
}

export interface VersionResponse {
  readonly version: string;
  readonly rev: string;
}

export type KeyAlgorithm = 'secp256k1' | 'k256' | 'ed25519';
export type SignAlgorithm = KeyAlgorithm | 'secp256k1_prehashed';

export interface TlsKeyOptions {
  readonly subject?: string;
  readonly altNames?: readonly string[];
  /** Evidence in the certificate. */
  readonly usageRaTls?: boolean;
  /** Default true. */
  readonly usageServerAuth?: boolean;
  readonly usageClientAuth?: boolean;
  /** Unix seconds. */
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly withAppInfo?: boolean;
}
