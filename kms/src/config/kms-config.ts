import type { AttestationMode, SnpPolicyConfig, TcbStatus } from '@dstack-cloud/attestation';
import type { CodeName } from '@dstack-cloud/policy';

/** `kms.toml` after checking: every default filled in, durations in seconds. */
export type FileConfig = {
  /** The original's file has its hints in either table; that of `rpc` counts. */
  readonly default: { readonly workers?: number | undefined };
  readonly rpc: {
    readonly workers?: number | undefined;
    readonly address: string;
    readonly port: number;
    readonly tls: {
      readonly key?: string | undefined;
      readonly certs?: string | undefined;
      readonly mutual: { readonly ca_certs?: string | undefined; readonly mandatory: false };
      readonly handshake_timeout: number;
      readonly max_connections: number;
      readonly max_connections_per_address?: number | undefined;
      readonly max_handshakes: number;
      readonly max_handshakes_per_address: number;
    };
    /** Body limits by method, as written: "1MiB" or bytes. */
    readonly limits: Readonly<Record<string, string | number>>;
  };
  readonly core: CoreConfig;
};

type CoreConfig = {
  readonly cert_dir: string;
  readonly admin_token_hash: string;
  readonly pccs_url?: string | undefined;
  readonly site_name: string;
  readonly enforce_self_authorization: boolean;
  readonly attest_rpc_cert: boolean;
  readonly sev_snp_key_release: boolean;
  readonly aws_nitro_tpm_key_release: boolean;
  readonly nitro_enclave_key_release: boolean;
  /** With auth type dev: who may have the root keys, by mr_aggregated in hex. */
  readonly dev_kms_allowed_mr_aggregated: readonly string[];
  /** Epochs by app id in lower-case hex, for policy sources that know none. */
  readonly key_epochs: Readonly<
    Record<string, { readonly epoch: number; readonly min?: number | undefined }>
  >;
  /** Roots by app id in lower-case hex, or `*` for all others, for policy sources that know none. */
  readonly key_roots: Readonly<
    Record<string, { readonly root?: string | undefined; readonly previous: readonly string[] }>
  >;
  readonly image: {
    readonly verify: boolean;
    readonly cache_dir: string;
    readonly download_url: string;
    /** Seconds. */
    readonly download_timeout: number;
    /** Bytes. */
    readonly max_download_size: number;
    readonly max_unpacked_size: number;
    readonly gcp_allowed_pcr0: readonly string[];
  };
  readonly auth_api: AuthApiConfig;
  readonly onboard: {
    readonly enabled: boolean;
    readonly auto_bootstrap_domain: string;
    readonly quote_enabled: boolean;
    readonly address: string;
    readonly port: number;
    /** In force, whichever of the two names it was given by. */
    readonly token: string;
    readonly auth_token: string;
    readonly htpasswd_file: string;
    readonly expected_k256_pubkey?: string | undefined;
    readonly expected_ca_pubkey?: string | undefined;
  };
  readonly attestation: AttestationConfig;
  readonly admin: {
    readonly enabled: boolean;
    readonly address: string;
    readonly port: number;
    readonly auth_token: string;
    readonly htpasswd_file: string;
    readonly insecure_no_auth: boolean;
  };
  readonly metrics: { readonly enabled: boolean };
  readonly temp_ca: { readonly enabled: boolean };
  readonly rate_limit: {
    readonly enabled: boolean;
    /** Of one verified workload. */
    readonly attested_per_minute: number;
    readonly attested_burst: number;
    /** Releases to one application, once it is allowed. */
    readonly app_per_minute: number;
    readonly app_burst: number;
    readonly open_per_minute: number;
    readonly open_burst: number;
    /** Evidence that is refused, and workloads that are, of one address; beyond that it is not even let in until the bucket fills. */
    readonly refused_evidence_per_minute: number;
    readonly refused_evidence_burst: number;
    /** Requests to one vendor for evidence of one address, and of all. */
    readonly collateral_per_minute: number;
    readonly vendor_per_minute: number;
    /** See `ConnectionLimits`. */
    readonly network_cost_per_minute: number;
    readonly network_cost_burst: number;
    /** Evidence verified at the same time; four times as much may wait, the rest is turned away. */
    readonly max_verifications: number;
  };
  readonly audit: {
    readonly enabled: boolean;
    readonly dir?: string | undefined;
    readonly max_segment_bytes: number;
    /** Segments kept; older records are removed, their hashes stay. All by default. */
    readonly keep_segments?: number | undefined;
  };
};

type AuthApiConfig = {
  readonly type?: 'webhook' | 'dev' | 'chain' | 'allow-list' | undefined;
  readonly webhook: {
    readonly url?: string | undefined;
    readonly timeout: number;
    readonly ca_cert?: string | undefined;
  };
  readonly chain: {
    readonly rpc_urls: readonly string[];
    readonly kms_contract?: string | undefined;
    readonly chain_id?: number | undefined;
    readonly quorum?: number | undefined;
    readonly max_block_age: number;
    readonly finality: 'latest' | 'safe' | 'finalized' | number;
    readonly head_reuse_ms: number;
    readonly read: 'call' | 'proof';
    readonly light_client_url?: string | undefined;
    /** Seconds for which each loosening of the contracts' policy must have been public. */
    readonly require_timelock?: number | undefined;
    /** What contracts do that were built elsewhere, by code hash. */
    readonly known_code: Readonly<Record<string, CodeName>>;
  };
  readonly allow_list: { readonly file?: string | undefined };
  readonly dev: { readonly gateway_app_id: string; readonly dangerously_allow_everything: boolean };
};

type AttestationConfig = {
  readonly insecure_allow_external_trust_anchors: boolean;
  readonly urls: { readonly pccs?: string | undefined; readonly amd_kds?: string | undefined };
  readonly root_ca: {
    readonly tdx?: string | undefined;
    readonly gcp_tpm?: string | undefined;
    readonly aws_nitro_enclave?: string | undefined;
    readonly aws_nitro_tpm?: string | undefined;
    readonly sev_snp_milan?: string | undefined;
    readonly sev_snp_genoa?: string | undefined;
    readonly sev_snp_turin?: string | undefined;
  };
  /** Local patch level policy; without it the policy source alone decides. */
  readonly accepted_tcb_statuses?: readonly TcbStatus[] | undefined;
  /** By kind of evidence; a rule here stands instead of the statuses above. */
  readonly tcb: Readonly<
    Partial<
      Record<
        AttestationMode,
        {
          readonly accepted_statuses: readonly TcbStatus[];
          /** Any when absent. */
          readonly accepted_advisories?: readonly string[] | undefined;
        }
      >
    >
  >;
  readonly snp: SnpPolicyConfig;
  readonly require_nonce: boolean;
  readonly insecure_skip_gcp_firmware_endorsement: boolean;
  readonly cache_dir?: string | undefined;
};

/** The configuration in effect: file, environment and defaults. */
export type KmsConfig = FileConfig & {
  readonly rpc: { readonly tls: { readonly max_connections_per_address: number } };
  readonly logLevel: string;
  /** Where the guest agent listens: `unix:/path` or an http URL. */
  readonly agentAddress: string | undefined;
  readonly policy: 'webhook' | 'dev' | 'chain' | 'allow-list';
  /** Processes that serve. One is this process alone. */
  readonly workers: number;
  readonly warnings: readonly string[];
};
