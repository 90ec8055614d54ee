import { createHash } from 'node:crypto';
import { type Attestation, parseCoseSign1, parseNitroDocument } from '@dstack-cloud/attestation';
import { nitroImageHash } from '@dstack-cloud/attestation/attester';
import { concatBytes, toHex } from '@dstack-cloud/encoding';
import { localFacts } from '@dstack-cloud/guest-agent';

/** Identities and measurements that evidence carries, hex. Nothing is verified: it is this machine's own. */
export function describeMachine(attestation: Attestation): object {
  const { quote } = attestation;
  if (quote.mode === 'dstack-nitro-enclave') return describeEnclave(attestation, quote.nsmQuote);
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

/** An enclave's image is its application: both hashes are one (docs/protocol/verification.md section 8.3). */
function describeEnclave({ runtimeEvents }: Attestation, document: Uint8Array): object {
  const { pcrs } = parseNitroDocument(parseCoseSign1(document).payload, 'nsm');
  const image = toHex(nitroImageHash(pcrs));
  const registers = [0, 1, 2].map((index) => pcrs.get(index) ?? new Uint8Array());
  const system = sha256(concatBytes(...registers));
  return {
    app_id: toHex(runtimeEvents.find(({ event }) => event === 'app-id')?.payload ?? new Uint8Array()),
    compose_hash: image,
    instance_id: '',
    device_id: sha256(new Uint8Array()),
    mr_system: system,
    mr_aggregated: system,
    os_image_hash: image,
    key_provider_info: '',
    init_script_hashes: [],
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
