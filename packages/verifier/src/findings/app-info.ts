import {
  type BootInfo,
  EVENT,
  readMrConfig,
  systemPayloads,
  type VerifiedAttestation,
} from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import type { AppInfoJson } from '../report.ts';

/** AppInfo of verified evidence, with the digests of the init scripts that were measured. */
export function appInfoOf(info: BootInfo, verified: VerifiedAttestation): AppInfoJson {
  return {
    app_id: toHex(info.appId),
    compose_hash: toHex(info.composeHash),
    instance_id: toHex(info.instanceId),
    device_id: toHex(info.deviceId),
    mr_system: toHex(info.mrSystem),
    mr_aggregated: toHex(info.mrAggregated),
    os_image_hash: toHex(info.osImageHash),
    key_provider_info: toHex(info.keyProviderInfo),
    init_script_hashes: initScriptHashes(verified),
  };
}

/** SNP measures no events: the MrConfig document names the scripts, or nothing does. */
function initScriptHashes({ evidence, runtimeEvents }: VerifiedAttestation): readonly string[] | null {
  if (evidence.kind === 'sev-snp') {
    readMrConfig(evidence.mrConfig);
    const value = (JSON.parse(evidence.mrConfig) as { init_script_hashes?: unknown }).init_script_hashes;
    return Array.isArray(value) ? value.map(String) : null;
  }
  return systemPayloads(runtimeEvents, EVENT.initScriptHash).map(toHex);
}
