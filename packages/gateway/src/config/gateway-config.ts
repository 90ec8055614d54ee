/** The settings of `gateway.toml` with all defaults; times in seconds. */
export type GatewayConfig = {
  readonly log_level: 'debug' | 'info' | 'warn' | 'error';
  /** Where guests register. */
  readonly address: string;
  readonly port: number;
  /** PEM files of the listener for guests; none when the guest agent gives a certificate. */
  readonly tls: {
    readonly key: string;
    readonly certs: string;
    /** CA of the KMS, whose certificates guests show. */
    readonly mutual: { readonly ca_certs: string };
  };
  readonly core: {
    /** Name of the listener for guests, for which the guest agent gives a certificate. */
    readonly rpc_domain: string;
    /** Unix socket of the guest agent of the gateway's own TEE; empty for none. */
    readonly agent_socket: string;
    /** Folder of the registrations and the key of the interface. */
    readonly state_path: string;
    readonly proxy: ProxyConfig;
    readonly wg: WireGuardConfig;
    readonly certbot: CertbotConfig;
    /** The state of several nodes; without endpoints it is in the state folder. Files are PEM. */
    readonly etcd: {
      readonly endpoints: readonly string[];
      readonly ca: string;
      readonly cert: string;
      readonly key: string;
    };
    /** For operators; `address` is `unix` or `host:port`. */
    readonly admin: { readonly enabled: boolean; readonly address: string; readonly auth_token: string };
    /** For a collector of metrics, `host:port`; empty for none. */
    readonly metrics: { readonly address: string };
    readonly recycle: { readonly enabled: boolean; readonly interval: number; readonly timeout: number };
  };
};

/** The listener for users. */
type ProxyConfig = {
  readonly base_domain: string;
  readonly listen_addr: string;
  readonly listen_port: number;
  /** What users write in their URLs. */
  readonly external_port: number;
  /** Port of the guest agent in guests. */
  readonly agent_port: number;
  /** PEM files; none when certificates come by ACME. */
  readonly cert_chain: string;
  readonly cert_key: string;
  readonly tls_versions: readonly ('1.2' | '1.3')[];
  readonly connect_top_n: number;
  readonly balance: 'fastest-handshake' | 'least-connections';
  /** 0 for no limit. */
  readonly max_connections_per_app: number;
  readonly max_connections: number;
  readonly max_connections_per_address: number;
  readonly inbound_pp_enabled: boolean;
  readonly app_address_ns_prefix: string;
  readonly app_address_ns_compat: boolean;
  /** `address:port`; the system's own when empty. */
  readonly app_address_dns_servers: readonly string[];
  readonly timeouts: {
    readonly handshake: number;
    readonly pp_header: number;
    readonly connect: number;
    readonly dns_resolve: number;
    readonly idle: number;
    readonly total: number;
    readonly handshake_stale: number;
  };
};

/** Certificates by ACME; times in seconds. */
type CertbotConfig = {
  readonly enabled: boolean;
  readonly acme_url: string;
  readonly renew_interval: number;
  readonly renew_before_expiration: number;
  readonly max_dns_wait: number;
  readonly dns_txt_ttl: number;
  /** Unix socket of the guest agent that quotes the keys; empty for none. */
  readonly agent_socket: string;
  /** Whether CAA records are kept that let our account alone order. */
  readonly auto_set_caa: boolean;
  /** Name of the authority in CAA records; empty for the one that its directory says. */
  readonly caa_issuer: string;
  /** One provider changes the zone. Files of secrets have mode 0600. */
  readonly cloudflare?: { readonly token_file: string; readonly api_url: string } | undefined;
  readonly route53?:
    | {
        readonly access_key_id: string;
        readonly secret_key_file: string;
        readonly endpoint?: string | undefined;
      }
    | undefined;
  /** Without a file, the service account of the machine. */
  readonly cloud_dns?: { readonly project: string; readonly credentials_file: string } | undefined;
  readonly webhook?: { readonly url: string; readonly token_file: string } | undefined;
  /** A name server that takes signed updates (RFC 2136). */
  readonly rfc2136: {
    /** `host:port`. */
    readonly server: string;
    readonly zone: string;
    readonly key_name: string;
    readonly key_algorithm: 'hmac-sha256' | 'hmac-sha384' | 'hmac-sha512';
    /** File with the base64 of the key. */
    readonly key_file: string;
  };
};

/** The tunnels. */
type WireGuardConfig = {
  readonly interface: string;
  readonly driver: 'auto' | 'kernel' | 'userspace';
  /** Base64; made and kept in the state folder when empty. */
  readonly private_key: string;
  readonly listen_port: number;
  readonly ip: string;
  readonly reserved_net: readonly string[];
  readonly client_ip_range: string;
  /** Where guests reach the interface: host and port. */
  readonly endpoint: string;
};
