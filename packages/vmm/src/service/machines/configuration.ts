import type { vmm } from '@dstack-cloud/prpc';
import { VmmError } from '../../errors.ts';
import { isImageName, isMachineName } from '../../manifest/manifest.ts';
import type { VmGpus, VmNetwork } from '../../manifest/vm-settings.ts';
import type { VmmConfig } from '../config/vmm-config.ts';

/** What a machine is to be, as a caller asked for it or as it is now. */
export interface Configuration {
  readonly name: string;
  readonly image: string;
  readonly composeFile: string;
  readonly vcpu: number;
  /** MB. */
  readonly memory: number;
  /** GB. */
  readonly diskSize: number;
  readonly ports: readonly vmm.PortMapping[];
  readonly encryptedEnv: Uint8Array;
  /** 40 hex digits. */
  readonly appId: string;
  readonly userConfig: string;
  /** Text of `.seal-approval.json`; empty for none. */
  readonly sealApproval: string;
  readonly kmsUrls: readonly string[];
  readonly gatewayUrls: readonly string[];
  readonly noTee: boolean;
  readonly networks: readonly VmNetwork[];
  readonly hugepages: boolean;
  readonly pinNuma: boolean;
  readonly gpus: VmGpus | null;
}

const MAX_URLS = 64;
const MAX_NETWORKS = 8;
const MAX_URL = 2048;

/** The networks that a caller asked for, or those of the configuration. @throws VmmError `bad_option` */
export function wantedNetworks(
  wanted: readonly vmm.NetworkingConfig[],
  { networking }: VmmConfig['cvm'],
): VmNetwork[] {
  if (wanted.length === 0) return [network({ mode: networking.mode, bridgeName: '' }, networking.bridge)];
  if (wanted.length > MAX_NETWORKS)
    throw refusal('networks', `at most ${MAX_NETWORKS}`, String(wanted.length));
  return wanted.map((one) => network(one, networking.bridge));
}

function network(
  { mode, bridgeName }: Pick<vmm.NetworkingConfig, 'mode' | 'bridgeName'>,
  standardBridge: string,
): VmNetwork {
  if (mode === 'user') return { mode };
  if (mode !== 'bridge') throw refusal('networking mode', 'user or bridge', mode);
  const name = bridgeName || standardBridge;
  // One that the operator of this host did not name may lead anywhere.
  if (name === '' || name !== standardBridge)
    throw refusal('bridge_name', standardBridge || 'a bridge in cvm.networking.bridge', name || 'none');
  return { mode, bridge_name: name };
}

/** Checks what does not depend on the host's state. @throws VmmError `bad_option` */
export function checkConfiguration(wanted: Configuration, { cvm }: VmmConfig): void {
  const { name, image, vcpu, memory, diskSize, appId } = wanted;
  // One of blanks alone could not be seen in a list.
  if (!isMachineName(name) || name.trim() === '')
    throw refusal('name', '1 to 128 of A-Z a-z 0-9 - _ . @ ~ ! $ ^ ( ) and blank', name);
  if (!isImageName(image)) throw refusal('image', '1 to 64 of A-Z a-z 0-9 _ . - without ..', image);
  if (vcpu < 1 || vcpu > cvm.max_allocable_vcpu)
    throw refusal('vcpu', `1 to ${cvm.max_allocable_vcpu} (cvm.max_allocable_vcpu)`, String(vcpu));
  if (memory < 1 || memory > cvm.max_allocable_memory_in_mb)
    throw refusal(
      'memory',
      `up to ${cvm.max_allocable_memory_in_mb} MB (cvm.max_allocable_memory_in_mb)`,
      `${memory} MB`,
    );
  if (diskSize < 1 || diskSize > cvm.max_disk_size_in_gb)
    throw refusal(
      'disk_size',
      `1 to ${cvm.max_disk_size_in_gb} GB (cvm.max_disk_size_in_gb)`,
      `${diskSize} GB`,
    );
  if (!/^[0-9a-f]{40}$/.test(appId)) throw refusal('app_id', '40 hex digits', appId);
  for (const [what, urls] of [
    ['kms_urls', wanted.kmsUrls],
    ['gateway_urls', wanted.gatewayUrls],
  ] as const) {
    if (urls.length > MAX_URLS) throw refusal(what, `at most ${MAX_URLS}`, String(urls.length));
    for (const url of urls) if (!isServiceUrl(url)) throw refusal(what, 'http or https addresses', url);
  }
}

/** An app id as callers write it. */
export function normalAppId(text: string): string {
  return text.replace(/^0x/i, '').toLowerCase();
}

function isServiceUrl(url: string): boolean {
  return url.length <= MAX_URL && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
}

const MAX_SHOWN = 80;

function refusal(what: string, expected: string, found: string): VmmError {
  const shown = found.slice(0, MAX_SHOWN);
  return new VmmError(
    'bad_option',
    `${what} cannot be used: expected ${expected}, found ${JSON.stringify(shown)}`,
    {
      expected,
      found: shown,
    },
  );
}
