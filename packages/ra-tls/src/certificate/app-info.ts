import type { BootInfo } from '@dstack-cloud/attestation';
import { decodeMsgpack, EncodingError, encodeMsgpack } from '@dstack-cloud/encoding';
import { RaTlsError } from '../errors.ts';

const MAX_BYTES = 64 * 1024;

/** What extension .9 says about a workload (docs/protocol/ra-tls.md section 1.3). */
export interface AppInfo {
  readonly appId: Uint8Array;
  readonly composeHash: Uint8Array;
  readonly instanceId: Uint8Array;
  readonly deviceId: Uint8Array;
  readonly mrSystem: Uint8Array;
  readonly mrAggregated: Uint8Array;
  readonly osImageHash: Uint8Array;
  readonly keyProviderInfo: Uint8Array;
  /** Written only when the guest's log has such events: readers of v0.6 know eight elements. */
  readonly initScriptHashes?: readonly Uint8Array[];
}

/** From verified evidence, never from a client's claims. */
export function appInfoOf(info: BootInfo, initScriptHashes: readonly Uint8Array[] = []): AppInfo {
  const { appId, composeHash, instanceId, deviceId, mrSystem, mrAggregated, osImageHash, keyProviderInfo } =
    info;
  const fields = {
    appId,
    composeHash,
    instanceId,
    deviceId,
    mrSystem,
    mrAggregated,
    osImageHash,
    keyProviderInfo,
  };
  return initScriptHashes.length > 0 ? { ...fields, initScriptHashes } : fields;
}

/** MessagePack array of 8 byte strings, or of 9 elements when there are init scripts. */
export function encodeAppInfo(info: AppInfo): Uint8Array {
  const elements: unknown[] = [
    info.appId,
    info.composeHash,
    info.instanceId,
    info.deviceId,
    info.mrSystem,
    info.mrAggregated,
    info.osImageHash,
    info.keyProviderInfo,
  ];
  if (info.initScriptHashes?.length) elements.push(info.initScriptHashes);
  return encodeMsgpack(elements);
}

/** Names of the elements in the map form of newer releases, in the order of the array. */
const MEMBERS = [
  'app_id',
  'compose_hash',
  'instance_id',
  'device_id',
  'mr_system',
  'mr_aggregated',
  'os_image_hash',
  'key_provider_info',
  'init_script_hashes',
] as const;

/**
 * Reads both forms: the array, of 8 elements or more, and the map of newer releases. What follows the ninth element is
 * ignored, as are members of other names: nothing is decided by them.
 * @throws RaTlsError for any other form
 */
export function decodeAppInfo(bytes: Uint8Array): AppInfo {
  let decoded: unknown;
  try {
    decoded = decodeMsgpack(bytes, { maxBytes: MAX_BYTES });
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new RaTlsError('malformed', `Failed to decode app info: ${cause.message}`, { cause });
  }
  const elements = Array.isArray(decoded) ? (decoded as unknown[]) : elementsOf(decoded);
  if (!elements || elements.length < 8) {
    throw new RaTlsError(
      'malformed',
      'Failed to decode app info: expected an array of at least 8 elements, or a map',
    );
  }
  const [appId, composeHash, instanceId, deviceId, mrSystem, mrAggregated, osImageHash, keyProviderInfo] =
    elements.slice(0, 8).map(binary) as [
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
      Uint8Array,
    ];
  const info = {
    appId,
    composeHash,
    instanceId,
    deviceId,
    mrSystem,
    mrAggregated,
    osImageHash,
    keyProviderInfo,
  };
  const scripts: unknown = elements[8] ?? [];
  if (!Array.isArray(scripts)) {
    throw new RaTlsError('malformed', 'Failed to decode app info: init script hashes are no array');
  }
  return scripts.length > 0 ? { ...info, initScriptHashes: scripts.map(binary) } : info;
}

/** The map's members in the order of the array; undefined for what is no map. */
function elementsOf(decoded: unknown): unknown[] | undefined {
  if (typeof decoded !== 'object' || decoded === null || ArrayBuffer.isView(decoded)) return undefined;
  const map = decoded as Readonly<Record<string, unknown>>;
  return MEMBERS.map((name) => (Object.hasOwn(map, name) ? map[name] : undefined));
}

function binary(element: unknown): Uint8Array {
  if (!(element instanceof Uint8Array)) {
    throw new RaTlsError('malformed', 'Failed to decode app info: expected a byte string');
  }
  return element;
}
