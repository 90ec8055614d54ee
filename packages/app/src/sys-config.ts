import { utf8 } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { AppError } from './errors.ts';
import { parseDocument } from './parse-document.ts';

/** `.sys-config.json`: what the host tells the guest about its services; not measured. */
export interface SysConfig {
  /** Base URLs without `/prpc`. */
  readonly kmsUrls: readonly string[];
  /** Base URLs without `/prpc`. */
  readonly gatewayUrls: readonly string[];
  readonly pccsUrl: string | undefined;
  /** AMD's key distribution service, or a cache of it. */
  readonly amdKdsUrl?: string | undefined;
  readonly dockerRegistry: string | undefined;
  readonly hostApiUrl: string | undefined;
  /** JSON text, passed on as it is. */
  readonly vmConfig: string;
}

/** Largest number of KMS or gateway URLs. */
const MAX_URLS = 64;
const urls = z.array(z.string()).max(MAX_URLS);
const text = z
  .string()
  .nullish()
  .transform((value) => value || undefined);

const schema = z.object({
  kms_urls: urls.default([]),
  gateway_urls: urls.optional(),
  tproxy_urls: urls.optional(),
  pccs_url: text,
  collateral_urls: z.object({ pccs: text, amd_kds: text }).nullish(),
  docker_registry: text,
  host_api_url: text,
  vm_config: z.string(),
});

/**
 * Reads `.sys-config.json`; unknown members are ignored. Newer hosts name services of collateral in `collateral_urls`,
 * older ones in `pccs_url`; what is in both must be the same.
 *
 * @throws AppError `sys-config-invalid`
 */
export function parseSysConfig(source: Uint8Array | string): SysConfig {
  const config = parseDocument(source, schema, 'sys-config-invalid', '.sys-config.json');
  const { pccs_url: older, collateral_urls: newer } = config;
  if (older !== undefined && newer?.pccs !== undefined && older !== newer.pccs) {
    throw new AppError(
      'sys-config-invalid',
      // Not shown: an address may hold a key.
      '.sys-config.json: pccs_url and collateral_urls.pccs name two services',
    );
  }
  return {
    kmsUrls: config.kms_urls,
    gatewayUrls: config.gateway_urls ?? config.tproxy_urls ?? [],
    pccsUrl: newer?.pccs ?? older,
    amdKdsUrl: newer?.amd_kds,
    dockerRegistry: config.docker_registry,
    hostApiUrl: config.host_api_url,
    vmConfig: config.vm_config,
  };
}

/** Bytes of `.sys-config.json` for a host that starts a guest, with the names of older and newer guests. */
export function serializeSysConfig(config: SysConfig): Uint8Array {
  const { pccsUrl, amdKdsUrl } = config;
  const collateral = {
    ...(pccsUrl === undefined ? {} : { pccs: pccsUrl }),
    ...(amdKdsUrl === undefined ? {} : { amd_kds: amdKdsUrl }),
  };
  const document = {
    kms_urls: config.kmsUrls,
    gateway_urls: config.gatewayUrls,
    pccs_url: pccsUrl ?? null,
    ...(Object.keys(collateral).length === 0 ? {} : { collateral_urls: collateral }),
    docker_registry: config.dockerRegistry ?? null,
    host_api_url: config.hostApiUrl ?? null,
    vm_config: config.vmConfig,
  };
  return utf8(`${JSON.stringify(document, null, 2)}\n`);
}
