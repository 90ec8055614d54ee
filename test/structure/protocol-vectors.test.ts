/** Every vector on the pages of docs/protocol, computed again by the code. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  asAppId,
  asComposeHash,
  canonicalJson,
  composeHash,
  escapeEnvValue,
  getComposeHash,
  instanceId,
  type KeyProviderKind,
  launchTokenHash,
  mrConfigIdV1,
  mrConfigIdV2,
  writeAppCompose,
} from '@dstack-cloud/app';
import {
  decodeAttestation,
  encodeAttestation,
  encodeGcpDocument,
  type RuntimeEvent,
  ratlsReportData,
  replayDigests,
  replayRuntimeEvents,
  reportData,
  runtimeEventDigest,
} from '@dstack-cloud/attestation';
import { osImageHash, PcrHasher } from '@dstack-cloud/eif';
import { concatBytes, fromHex, ScaleWriter, toHex, utf8 } from '@dstack-cloud/encoding';
import {
  appKeysFromSeed,
  bootstrapReportData,
  decryptEnv,
  deriveAppCaKey,
  deriveAppKeys,
  deriveDhSecret,
  deriveEnvPublicKey,
  generateP256Key,
  getKey,
  openSealedBox,
  rootId,
  sealBox,
  sealEnv,
  signEnvPublicKey,
  verifyEnvPublicKey,
  x25519PublicKey,
} from '@dstack-cloud/keys';
import { webhookBody } from '@dstack-cloud/policy';
import {
  CONFIRM_WORD,
  type CsrConfig,
  encodeAppInfo,
  encodeCsrV1,
  encodeCsrV2,
  issuerOf,
  rootCa,
  rpcCertificate,
  verifyCsr,
} from '@dstack-cloud/ra-tls';
import { describe, expect, test } from 'vitest';
import { importSlots } from './import-slots.ts';

const { mappingSlot } = await importSlots();
const directory = resolve(dirname(fileURLToPath(import.meta.url)), '../../docs/protocol');

type Values = Readonly<Record<string, unknown>>;
type Vector = Values & { readonly vector: string; readonly gives: Values };

const vectors = readdirSync(directory).flatMap((page) =>
  [...readFileSync(join(directory, page), 'utf8').matchAll(/^```json vector\n([\s\S]*?)^```$/gm)].map(
    (match, index) => ({ page, index, vector: JSON.parse(match[1]!) as Vector }),
  ),
);

const text = (value: unknown): string => String(value);
const bytes = (value: unknown): Uint8Array => fromHex(text(value));
/** Bytes given as hex under a name, or as text under the name with `_utf8`. */
const either = (values: Values, name: string): Uint8Array =>
  values[`${name}_utf8`] === undefined ? bytes(values[name]) : utf8(text(values[`${name}_utf8`]));

function runtimeEvent(values: Values): RuntimeEvent {
  const event = { event: text(values['name']), payload: either(values, 'payload') };
  return values['version'] === 2 ? { ...event, version: 2 } : event;
}

/** What each kind of vector computes; `wanted` are the names under `gives`. */
const computations: Readonly<
  Record<string, (given: Vector, wanted: readonly string[]) => Values | Promise<Values>>
> = {
  sha256: (given) => {
    const parts = given['hex'] === undefined ? [utf8(text(given['utf8']))] : [given['hex']].flat().map(bytes);
    return {
      digest: createHash('sha256')
        .update(concatBytes(...parts))
        .digest('hex'),
    };
  },
  'report-data': (given, wanted) =>
    Object.fromEntries(
      wanted.map((hash) => {
        const content = utf8(text(given['content_utf8']));
        return [hash, toHex(reportData({ tag: text(given['tag']), content, hash }))];
      }),
    ),
  'scale-compact': (_given, wanted) =>
    Object.fromEntries(
      wanted.map((value) => [value, toHex(new ScaleWriter().compact(Number(value)).finish())]),
    ),
  'attestation-v0': (given) => {
    const attestation = decodeAttestation(bytes(given['hex']));
    expect(toHex(encodeAttestation(attestation))).toBe(given['hex']);
    const { quote, runtimeEvents, config } = attestation;
    const events = 'eventLog' in quote ? quote.eventLog.length : 0;
    return { mode: quote.mode, events, runtime_events: runtimeEvents.length, config };
  },
  'runtime-event': (given, wanted) =>
    Object.fromEntries(
      wanted.map((hash) => [
        hash,
        toHex(runtimeEventDigest(runtimeEvent(given), hash as 'sha384' | 'sha256')),
      ]),
    ),
  replay: (given) => {
    const events = (given['events'] as Values[]).map(runtimeEvent);
    return {
      sha256: toHex(replayRuntimeEvents(events, 'sha256')),
      sha256_boot: toHex(replayRuntimeEvents(events, 'sha256', { until: 'boot-mr-done' })),
    };
  },
  'replay-digests': (given) => {
    const digests = (given['digests'] as string[]).map(bytes);
    return { value: toHex(replayDigests(digests, given['algorithm'] as 'sha256' | 'sha384')) };
  },
  'root-id': (given) => ({ root_id: toHex(rootId(bytes(given['k256_public_key']))) }),
  'derive-dh': (given) => ({
    secret: toHex(deriveDhSecret(bytes(given['ikm']), given['contexts'] as string[])),
  }),
  'app-keys': (given, wanted) => {
    const roots = { caScalar: bytes(given['ca_scalar']), k256: bytes(given['k256_root']) };
    const appId = bytes(given['app_id']);
    const epoch = Number(given['epoch'] ?? 0);
    const keys = deriveAppKeys(roots, appId, bytes(given['instance_id']), epoch);
    const all: Values = {
      disk_crypt_key: toHex(keys.diskCryptKey),
      disk_crypt_key_without_instance: toHex(
        deriveAppKeys(roots, appId, new Uint8Array(), epoch).diskCryptKey,
      ),
      env_crypt_key: toHex(keys.envCryptKey),
      env_public_key: toHex(deriveEnvPublicKey(roots, appId, epoch)),
      k256_key: toHex(keys.k256Key),
      k256_signature: toHex(keys.k256Signature),
      app_ca_scalar: toHex(deriveAppCaKey(roots, appId, epoch).scalar),
    };
    return Object.fromEntries(wanted.map((name) => [name, all[name]]));
  },
  'seed-keys': (given) => {
    const { appKey, diskCryptKey, k256Key } = appKeysFromSeed(bytes(given['seed']));
    return {
      app_ca_scalar: toHex(appKey.scalar),
      disk_crypt_key: toHex(diskCryptKey),
      k256_key: toHex(k256Key),
    };
  },
  'get-key': (given) => {
    const [path, purpose, algorithm] = [given['path'], given['purpose'], given['algorithm']].map(text);
    const { key, publicKey, signature } = getKey(bytes(given['k256_key']), path!, purpose!, algorithm!);
    return { key: toHex(key), public_key: toHex(publicKey), signature: toHex(signature) };
  },
  'env-public-key': (given) => {
    const [root, appId, publicKey] = [given['k256_root'], given['app_id'], given['public_key']].map(bytes);
    const timestamp = Number(given['timestamp']);
    const v1 = signEnvPublicKey(root!, appId!, publicKey!, timestamp);
    const claim = { appId: appId!, publicKey: publicKey!, signature: v1, timestamp, now: timestamp };
    return {
      signature: toHex(signEnvPublicKey(root!, appId!, publicKey!)),
      signature_v1: toHex(v1),
      signer: toHex(verifyEnvPublicKey(claim)!),
    };
  },
  bootstrap: (given) => ({
    report_data: toHex(bootstrapReportData(bytes(given['ca_spki']), bytes(given['k256_public_key']))),
  }),
  'sealed-env': (given) => {
    const secret = bytes(given['env_crypt_key']);
    const publicKey = x25519PublicKey(secret);
    const options = { ephemeral: bytes(given['ephemeral']), iv: bytes(given['iv']) };
    const plaintext = utf8(text(given['plaintext']));
    const sealed = sealEnv(plaintext, publicKey, options);
    expect(decryptEnv(secret, sealed)).toEqual(plaintext);
    return { public_key: toHex(publicKey), sealed: toHex(sealed) };
  },
  'sealed-box': (given) => {
    const [secret, message] = [bytes(given['secret']), bytes(given['message'])];
    const sealed = sealBox(message, x25519PublicKey(secret), bytes(given['ephemeral_secret']));
    expect(openSealedBox(sealed, secret)).toEqual(message);
    return { sealed: toHex(sealed) };
  },
  extension: (given) => {
    const key = generateP256Key();
    const root = issuerOf(rootCa({ key, now: 1_700_000_000 }), key);
    const domain = 'kms.example';
    const certificate = toHex(rpcCertificate({ issuer: root, now: 1_700_000_000, domain, spki: key.spki }));
    const der = text(given.gives['der']);
    return { der: certificate.includes(der) && given['payload_utf8'] === 'kms:rpc' ? der : certificate };
  },
  'app-info': (given) => ({
    msgpack: toHex(
      encodeAppInfo({
        appId: bytes(given['app_id']),
        composeHash: bytes(given['compose_hash']),
        instanceId: bytes(given['instance_id']),
        deviceId: bytes(given['device_id']),
        mrSystem: bytes(given['mr_system']),
        mrAggregated: bytes(given['mr_aggregated']),
        osImageHash: bytes(given['os_image_hash']),
        keyProviderInfo: either(given, 'key_provider_info'),
      }),
    ),
  }),
  'csr-v1': (given) => {
    const [quote, eventLog] = [bytes(given['quote']), either(given, 'event_log')];
    return { csr: toHex(encodeCsrV1({ ...csrHead(given), quote, eventLog })) };
  },
  'csr-v2': (given) => {
    const attestation = decodeAttestation(new Uint8Array(70));
    return { csr: toHex(encodeCsrV2({ ...csrHead(given), attestation })) };
  },
  'verify-csr': (given) => {
    const { pubkey, config, readEvidence } = verifyCsr(2, bytes(given['csr']), bytes(given['signature']));
    const isBound = toHex(readEvidence().reportData) === toHex(ratlsReportData(pubkey));
    return { subject: config.subject, ext_app_info: config.extAppInfo, is_bound: isBound };
  },
  sha512: (given) => ({ digest: createHash('sha512').update(text(given['utf8'])).digest('hex') }),
  'launch-token': (given) => ({ hash: toHex(launchTokenHash(text(given['token']))) }),
  'write-app-compose': (given) => {
    const written = writeAppCompose({
      name: text(given['name']),
      dockerComposeFile: text(given['docker_compose_file']),
      preLaunchScript: text(given['pre_launch_script']),
      allowedEnvs: given['allowed_envs'] as string[],
      gatewayEnabled: true,
      publicLogs: true,
      publicSysinfo: true,
      publicTcbinfo: true,
      keyProviderId: '',
      noInstanceId: false,
      secureTime: false,
      keyProvider: 'kms',
      storageFs: 'ext4',
    });
    return { bytes: written.length, compose_hash: toHex(composeHash(written)) };
  },
  'get-compose-hash': (given) => {
    const compose = given['compose'] as Record<string, unknown>;
    return { canonical: canonicalJson(compose), hash: getComposeHash(compose) };
  },
  'instance-id': (given) => ({
    instance_id: toHex(instanceId(bytes(given['seed']), asAppId(text(given['app_id'])))),
  }),
  'mr-config-id': (given) => {
    const hash = asComposeHash(text(given['compose_hash']));
    const claims = {
      composeHash: hash,
      appId: asAppId(text(given['app_id'])),
      keyProvider: given['key_provider'] as KeyProviderKind,
      keyProviderId: bytes(given['key_provider_id']),
    };
    return { form_1: toHex(mrConfigIdV1(hash)), form_2: toHex(mrConfigIdV2(claims)) };
  },
  'env-file': (given) => ({ quoted: (given['values'] as string[]).map(escapeEnvValue) }),
  'gcp-document': (given) => ({ cbor: toHex(encodeGcpDocument(bytes(given['uki_auth']))) }),
  'eif-registers': async (given) => {
    const hasher = new PcrHasher(0);
    await hasher.section('kernel')(utf8(text(given['kernel_utf8'])));
    await hasher.section('cmdline')(utf8(text(given['cmdline_utf8'])));
    for (const ramdisk of given['ramdisks_utf8'] as string[]) await hasher.section('ramdisk')(utf8(ramdisk));
    const pcrs = await hasher.digest();
    const { pcr0, pcr1, pcr2 } = pcrs;
    return { pcr0: toHex(pcr0), pcr1: toHex(pcr1), pcr2: toHex(pcr2), os_image_hash: osImageHash(pcrs) };
  },
  'mapping-slot': (given) => ({
    slot: slotHex(mappingSlot(bytes(given['key']), BigInt(Number(given['slot'])))),
  }),
  'webhook-body': (given) => ({
    body: webhookBody({
      mode: text(given['mode']),
      appId: bytes(given['app_id']),
      composeHash: bytes(given['compose_hash']),
      instanceId: new Uint8Array(),
      deviceId: bytes(given['device_id']),
      mrSystem: bytes(given['mr_system']),
      mrAggregated: bytes(given['mr_aggregated']),
      osImageHash: bytes(given['os_image_hash']),
      keyProviderInfo: new Uint8Array(),
      tcbStatus: text(given['tcb_status']),
      advisoryIds: given['advisory_ids'] as string[],
    }),
  }),
};

/** A storage slot as 32 bytes of hex. */
function slotHex(slot: bigint): string {
  return slot.toString(16).padStart(64, '0');
}

function csrHead(given: Values): { confirm: string; pubkey: Uint8Array; config: CsrConfig } {
  const orgName = given['org_name'];
  return {
    confirm: CONFIRM_WORD,
    pubkey: bytes(given['pubkey']),
    config: {
      ...(orgName === undefined ? {} : { orgName: text(orgName) }),
      subject: text(given['subject']),
      subjectAltNames: given['subject_alt_names'] as string[],
      usageServerAuth: given['usage_server_auth'] === true,
      usageClientAuth: false,
      extQuote: given['ext_quote'] === true,
      extAppInfo: false,
    },
  };
}

describe('vectors of docs/protocol', () => {
  test('each kind is on some page, and each page knows its kinds', () => {
    const used = new Set(vectors.map(({ vector }) => vector.vector));
    expect([...used].sort()).toEqual(Object.keys(computations).sort());
  });

  test.each(vectors)('$page, vector $index: $vector.vector', async ({ vector }) => {
    const wanted = Object.keys(vector.gives);
    expect(wanted.length).toBeGreaterThan(0);
    expect(await computations[vector.vector]?.(vector, wanted)).toEqual(vector.gives);
  });
});
