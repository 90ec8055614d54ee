/** `vmm.toml` after checking: every default filled in. The reference of the configuration says what each key is for. */
export interface VmmConfig {
  readonly log_level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
  /** `unix:PATH`, or an address. */
  readonly address: string;
  readonly port: number;
  readonly kms_url: string;
  readonly node_name: string;
  readonly image: {
    /** `HOST[:PORT]/REPOSITORY`; empty for none. */
    readonly registry: string;
    /** File with passwords of registries, as Docker writes it; empty for none. */
    readonly registry_auth_file: string;
  };
  readonly image_path: string;
  readonly run_path: string;
  /** Seconds. */
  readonly trash_ttl: number;
  readonly tls: { readonly key: string; readonly certs: string };
  readonly auth: {
    readonly enabled: boolean;
    readonly tokens: readonly string[];
    readonly htpasswd_file: string;
  };
  readonly limits: {
    readonly max_connections: number;
    readonly changes_per_minute: number;
    readonly log_streams: number;
  };
  readonly discovery: { readonly enabled: boolean };
  readonly cvm: CvmConfig;
  readonly gateway: { readonly base_domain: string; readonly port: number; readonly agent_port: number };
}

interface CvmConfig {
  readonly qemu_path: string;
  readonly platform: 'auto' | 'tdx' | 'simulated-tdx';
  readonly simulated_tee_seed: string;
  readonly acceleration: 'auto' | 'kvm' | 'tcg';
  readonly kms_urls: readonly string[];
  readonly gateway_urls: readonly string[];
  readonly pccs_url: string;
  readonly docker_registry: string;
  readonly cid_start: number;
  readonly cid_pool_size: number;
  readonly max_cvm_number: number;
  readonly max_allocable_vcpu: number;
  readonly max_allocable_memory_in_mb: number;
  readonly max_disk_size_in_gb: number;
  /** Seconds. */
  readonly boot_timeout: number;
  readonly qgs_port: number;
  readonly tpm: 'none' | 'swtpm';
  /** For tests on hardware: a TD may boot an image of flavour `dev`. */
  readonly allow_dev_image: boolean;
  readonly networking: { readonly mode: 'user' | 'bridge'; readonly bridge: string };
  readonly port_mapping: {
    readonly enabled: boolean;
    readonly address: string;
    readonly range: readonly PortRange[];
  };
  /** Seconds. */
  readonly auto_restart: {
    readonly enabled: boolean;
    readonly interval: number;
    readonly max_retries: number;
    readonly initial_backoff: number;
    readonly max_backoff: number;
    readonly reset_window: number;
  };
  readonly gpu: {
    readonly enabled: boolean;
    /** Products that callers may name, `vendor:device`. */
    readonly listing: readonly string[];
    /** Addresses. */
    readonly exclude: readonly string[];
    /** Addresses; all when empty. */
    readonly include: readonly string[];
    readonly allow_attach_all: boolean;
  };
}

interface PortRange {
  readonly protocol: 'tcp' | 'udp';
  readonly from: number;
  readonly to: number;
}
