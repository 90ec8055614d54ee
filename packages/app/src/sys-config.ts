import { utf8 } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { parseDocument } from './parse-document.ts';

/** `.sys-config.json`: what the host tells the guest about its services (chapter 30 section 3); not measured. */
export interface SysConfig {
  /** Base URLs without `/prpc`. */
  readonly kmsUrls: readonly string[];
  /** Base URLs without `/prpc`. */
  readonly gatewayUrls: readonly string[];
  readonly pccsUrl: string | undefined;
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
  docker_registry: text,
  host_api_url: text,
  vm_config: z.string(),
});

/**
 * Reads `.sys-config.json`; unknown members are ignored.
 *
 * @throws AppError `sys-config-invalid`
 */
export function parseSysConfig(source: Uint8Array | string): SysConfig {
  const config = parseDocument(source, schema, 'sys-config-invalid', '.sys-config.json');
  return {
    kmsUrls: config.kms_urls,
    gatewayUrls: config.gateway_urls ?? config.tproxy_urls ?? [],
    pccsUrl: config.pccs_url,
    dockerRegistry: config.docker_registry,
    hostApiUrl: config.host_api_url,
    vmConfig: config.vm_config,
  };
}

/** Bytes of `.sys-config.json` for a host that starts a guest. */
export function serializeSysConfig(config: SysConfig): Uint8Array {
  const document = {
    kms_urls: config.kmsUrls,
    gateway_urls: config.gatewayUrls,
    pccs_url: config.pccsUrl ?? null,
    docker_registry: config.dockerRegistry ?? null,
    host_api_url: config.hostApiUrl ?? null,
    vm_config: config.vmConfig,
  };
  return utf8(`${JSON.stringify(document, null, 2)}\n`);
}
