import { GCE_TDX_PCR0, type RootName } from '@dstack-cloud/attestation';
import { z } from 'zod';

/** The effective configuration, all defaults filled in. */
export interface Config {
  readonly address: string;
  readonly port: number;
  readonly image_cache_dir: string;
  readonly image_download_url: string;
  readonly image_download_timeout_secs: number;
  readonly pccs_url?: string | undefined;
  readonly max_concurrency: number;
  readonly max_connections: number;
  readonly max_connections_per_address: number;
  readonly attestation: {
    readonly insecure_allow_external_trust_anchors: boolean;
    readonly firmware_endorsement?: boolean | undefined;
    readonly gcp_pcr0: string[];
    readonly gcp_mrtd: string[];
    readonly nitro_max_age_seconds: number;
    readonly urls: {
      readonly pccs?: string | undefined;
      readonly amd_kds?: string | undefined;
      readonly tpm_hosts: string[];
    };
    readonly root_ca: Readonly<Partial<Record<RootName, string | undefined>>>;
  };
}

const url = z.url({ protocol: /^https?$/ });
const path = z.string().min(1);

/** Roots by the original's names; PEM or DER files. */
const rootCa = z.strictObject({
  tdx: path.optional(),
  gcp_tpm: path.optional(),
  aws_nitro_enclave: path.optional(),
  aws_nitro_tpm: path.optional(),
  sev_snp_milan: path.optional(),
  sev_snp_genoa: path.optional(),
  sev_snp_turin: path.optional(),
});

const urls = z.strictObject({
  pccs: url.optional().describe("Base URL of a PCCS or Intel's PCS"),
  amd_kds: url.optional().describe("Base URL of AMD's key distribution service"),
  tpm_hosts: z
    .array(z.string())
    .max(16)
    .default([])
    .describe("Hosts (with port) for vTPM certificates besides Google's; only with external trust anchors"),
});

const attestation = z.strictObject({
  insecure_allow_external_trust_anchors: z
    .boolean()
    .default(false)
    .describe('Accept evidence under the roots in root_ca; every answer about it then says simulated'),
  firmware_endorsement: z
    .boolean()
    .optional()
    .describe(
      "Require Google's endorsement of a GCP firmware; default true, false under another gcp_tpm root",
    ),
  gcp_pcr0: z
    .array(z.string())
    .default([GCE_TDX_PCR0])
    .describe('Accepted PCR 0 values of GCP firmware, hex; a list replaces the default, empty: none'),
  gcp_mrtd: z
    .array(z.string())
    .default([])
    .describe('Accepted MRTD values on GCP, hex; empty: any endorsed one'),
  nitro_max_age_seconds: z.number().int().positive().max(86400).default(300),
  urls: urls.prefault({}),
  root_ca: rootCa.prefault({}),
});

/** Configuration of the service: the original's keys and defaults, and our limits. */
export const ConfigSchema: z.ZodType<Config> = z.strictObject({
  address: z.string().min(1).default('0.0.0.0').describe('Address to listen on'),
  port: z.number().int().min(1).max(65535).default(8080),
  image_cache_dir: path.default('/tmp/dstack-verifier/cache').describe('Directory for collateral'),
  image_download_url: z
    .string()
    .includes('{OS_IMAGE_HASH}')
    .default('https://download.dstack.org/os-images/mr_{OS_IMAGE_HASH}.tar.gz')
    .describe('Read for compatibility: images are verified by their measurement documents'),
  image_download_timeout_secs: z.number().int().positive().default(300),
  pccs_url: url.optional().describe('Older name of attestation.urls.pccs'),
  max_concurrency: z
    .number()
    .int()
    .min(1)
    .max(1024)
    .default(32)
    .describe('Verifications at the same time, half of them of one address'),
  max_connections: z.number().int().min(1).max(65535).default(1024),
  max_connections_per_address: z
    .number()
    .int()
    .min(1)
    .max(65535)
    .default(256)
    .describe('Behind a proxy all clients have its address: set it to max_connections there'),
  attestation: attestation.prefault({}),
});
