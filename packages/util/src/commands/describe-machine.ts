import type { Attestation } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { localFacts } from '@dstack-cloud/guest-agent';

/** Identities and measurements that evidence carries, hex. Nothing is verified: it is this machine's own. */
export function describeMachine(attestation: Attestation): object {
  const { appInfo } = localFacts(attestation, '');
  return {
    app_id: toHex(appInfo.appId),
    compose_hash: toHex(appInfo.composeHash),
    instance_id: toHex(appInfo.instanceId),
    device_id: toHex(appInfo.deviceId),
    mr_system: toHex(appInfo.mrSystem),
    mr_aggregated: toHex(appInfo.mrAggregated),
    os_image_hash: toHex(appInfo.osImageHash),
    key_provider_info: toHex(appInfo.keyProviderInfo),
    init_script_hashes: (appInfo.initScriptHashes ?? []).map(toHex),
  };
}
