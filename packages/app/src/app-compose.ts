import { fromHex } from '@dstack-cloud/encoding';
import { type AppRequirements, appComposeSchema, portPolicySchema } from './app-compose-schema.ts';
import { AppError } from './errors.ts';
import type { KeyProviderKind } from './key-provider.ts';
import { parseDocument } from './parse-document.ts';
import { type MachineAbilities, unsupportedMembers } from './unsupported-members.ts';

/** Newest manifest version that this guest understands. */
export const MAX_MANIFEST_VERSION = 3;

/** app-compose.json as a guest understands it, defaults filled in. */
export interface AppCompose {
  readonly manifestVersion: number;
  readonly name: string;
  readonly runner: string;
  readonly features: readonly string[];
  readonly snapshotter: 'overlayfs' | 'stargz' | undefined;
  readonly dockerComposeFile: string | undefined;
  readonly bashScript: string | undefined;
  /** Whether the file holds registry credentials of the kind that guests before 0.5.5 used. */
  readonly hasDockerConfig: boolean;
  readonly publicLogs: boolean;
  readonly publicSysinfo: boolean;
  readonly publicTcbinfo: boolean;
  readonly gatewayEnabled: boolean;
  /** The effective provider: `key_provider`, else the two older switches. */
  readonly keyProvider: KeyProviderKind;
  /** Pinned identity of the provider; empty when any is accepted. */
  readonly keyProviderId: Uint8Array;
  /**
   * SPKI DER of the P-256 key that may approve another system for what key provider `tpm` has sealed; empty for none.
   * An addition of ours: the original measures it and does not read it.
   */
  readonly sealApprovalKey: Uint8Array;
  readonly allowedEnvs: readonly string[];
  readonly noInstanceId: boolean;
  readonly secureTime: boolean;
  /** As written; {@link assertSupported} refuses what this guest does not know. */
  readonly storageFs: string | undefined;
  /** Bytes. */
  readonly swapSize: bigint;
  /** Presence alone, even of an empty text, runs the step. */
  readonly preLaunchScript: string | undefined;
  readonly initScripts: readonly string[];
  readonly eventLogVersion: 1 | 2;
  readonly portPolicy: {
    readonly ports: readonly { readonly port: number; readonly pp: boolean }[];
    readonly restrictMode: boolean;
  };
  readonly requirements: AppRequirements | undefined;
  readonly verityVolumes: readonly {
    readonly source: string;
    readonly verityRoot: Uint8Array;
    readonly target: string;
  }[];
}

/**
 * Reads app-compose.json. Unknown members are ignored; known ones must have their type; repeated members, a
 * byte-order mark and trailing text are errors.
 *
 * @throws AppError `app-compose-invalid` naming the member
 */
export function parseAppCompose(source: Uint8Array | string): AppCompose {
  const members = parseDocument(source, appComposeSchema, 'app-compose-invalid', 'app-compose.json');
  return {
    manifestVersion: members.manifest_version,
    name: members.name,
    runner: members.runner,
    features: members.features,
    snapshotter: members.snapshotter ?? undefined,
    dockerComposeFile: members.docker_compose_file ?? undefined,
    bashScript: members.bash_script ?? undefined,
    hasDockerConfig: holdsSomething(members.docker_config),
    publicLogs: members.public_logs,
    publicSysinfo: members.public_sysinfo,
    publicTcbinfo: members.public_tcbinfo,
    gatewayEnabled:
      members.gateway_enabled || members.tproxy_enabled || members.features.includes('tproxy-net'),
    keyProvider:
      members.key_provider ??
      (members.kms_enabled ? 'kms' : members.local_key_provider_enabled ? 'local' : 'none'),
    keyProviderId: fromHex(members.key_provider_id.toLowerCase()),
    sealApprovalKey: fromHex(members.seal_approval_key.toLowerCase()),
    allowedEnvs: members.allowed_envs,
    noInstanceId: members.no_instance_id,
    secureTime: members.secure_time,
    storageFs: members.storage_fs ?? undefined,
    swapSize: members.swap_size,
    preLaunchScript: members.pre_launch_script ?? undefined,
    initScripts: members.init_script ?? [],
    eventLogVersion: members.event_log_version,
    portPolicy: { ports: members.port_policy.ports, restrictMode: members.port_policy.restrict_mode },
    requirements: members.requirements ?? undefined,
    verityVolumes: members.verity_volumes.map(({ source: from, verity_root, target }) => ({
      source: from,
      verityRoot: fromHex(verity_root.toLowerCase()),
      target,
    })),
  };
}

/**
 * Which ports an app-compose.json opens. It may be one of another version, whose other members this one does not know.
 *
 * @throws AppError `app-compose-invalid` naming the member
 */
export function parsePortPolicy(source: Uint8Array | string): AppCompose['portPolicy'] {
  const { port_policy: policy } = parseDocument(
    source,
    portPolicySchema,
    'app-compose-invalid',
    'app-compose.json',
  );
  return { ports: policy.ports, restrictMode: policy.restrict_mode };
}

/** Null, an empty text and an empty object ask for nothing. */
function holdsSomething(value: unknown): boolean {
  if (value === undefined || value === null || value === '') return false;
  return typeof value !== 'object' || Object.keys(value).length > 0;
}

const RUNNERS = ['docker-compose', 'nerdctl-compose', 'bash'];

/**
 * What the parser lets through and every guest of this line refuses: a manifest version, runner or file system that it
 * does not know, and requirements in a manifest whose version older guests would run.
 *
 * @throws AppError `app-compose-unsupported` naming the member
 */
export function assertKnown(compose: AppCompose): void {
  if (compose.manifestVersion > MAX_MANIFEST_VERSION) {
    refuse(
      `manifest_version ${compose.manifestVersion} is newer than this guest`,
      `1 to ${MAX_MANIFEST_VERSION}`,
      String(compose.manifestVersion),
    );
  }
  if (!RUNNERS.includes(compose.runner)) {
    refuse(`unsupported runner: ${compose.runner}`, RUNNERS.join(', '), compose.runner);
  }
  if (compose.storageFs !== undefined && !/^(?:zfs|ext4)$/i.test(compose.storageFs)) {
    refuse(`storage_fs ${compose.storageFs} is unknown`, 'zfs or ext4', compose.storageFs);
  }
  if (compose.requirements !== undefined && compose.manifestVersion < 3) {
    refuse('requirements need manifest_version "3"', '3', String(compose.manifestVersion));
  }
}

/**
 * Refuses every member that asks for what a guest of this version does not do. The guest calls this before it measures
 * anything or asks for keys, the command line before it hands anything over.
 *
 * @throws AppError `app-compose-unsupported` naming the member
 */
export function assertSupported(compose: AppCompose, machine: MachineAbilities): void {
  assertKnown(compose);
  const [unsupported, ...further] = unsupportedMembers(compose, machine);
  if (unsupported === undefined) return;
  const also = further.map(({ member }) => member).join(', ');
  const { member, problem, found, expected = 'no such member' } = unsupported;
  refuse(`${member}: ${problem}${also === '' ? '' : ` (also refused: ${also})`}`, expected, found);
}

function refuse(problem: string, expected: string, found: string): never {
  throw new AppError('app-compose-unsupported', `app-compose.json: ${problem}`, { expected, found });
}
