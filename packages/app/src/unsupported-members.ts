import { createPublicKey } from 'node:crypto';
import type { AppCompose } from './app-compose.ts';

/** A measured member that asks for what no guest of this version does. */
export interface UnsupportedMember {
  readonly member: string;
  /** What is wrong, and what to do. */
  readonly problem: string;
  readonly found: string;
  /** A value that would do; undefined where the member has to be left out. */
  readonly expected?: string;
}

/** What a machine can do for its application, beyond what every guest does. */
export interface MachineAbilities {
  readonly swap: boolean;
  /** File systems of the data disk; `any` where none is made and the name is only measured. */
  readonly fileSystems: 'any' | readonly string[];
  /** A tunnel to a gateway. */
  readonly gateway: boolean;
}

/** A directory that stands for a machine: the data lies in a folder of the host. */
export const DIRECTORY_MACHINE: MachineAbilities = { swap: false, fileSystems: 'any', gateway: false };

/** A machine of our OS image, whose kernel has no ZFS. */
export const DISK_MACHINE: MachineAbilities = { swap: true, fileSystems: ['ext4'], gateway: true };

/** What app-compose means when it names no file system. */
export const DEFAULT_FILE_SYSTEM = 'zfs';

type Rule = readonly [
  member: string,
  found: (compose: AppCompose, machine: MachineAbilities) => string | undefined,
  problem: string,
  expected?: string,
];

/** Bytes of a P-256 key as SubjectPublicKeyInfo with an uncompressed point (RFC 5480). */
const P256_SPKI = 91;

/** A point that is not on the curve could never approve anything. */
function isP256Key(spki: Uint8Array): boolean {
  if (spki.length !== P256_SPKI) return false;
  try {
    const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
    return key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
  } catch {
    return false;
  }
}

/** Only `tproxy-net` had a meaning that is still known: it turns the gateway on. */
const KNOWN_FEATURES = ['tproxy-net'];

const text = (value: string | undefined): boolean => value !== undefined && value.trim() !== '';

/**
 * Whoever reads a measured app-compose.json relies on what it says, so each member is either done by the guest or on
 * this list. The rest of the members are done; the reference of the guest programs has the table.
 */
const RULES: readonly Rule[] = [
  [
    'runner',
    ({ runner }) => (runner === 'nerdctl-compose' ? runner : undefined),
    'this guest has no nerdctl; use docker-compose or bash',
  ],
  [
    'snapshotter',
    ({ snapshotter }) => snapshotter,
    'only runner nerdctl-compose has snapshotters; remove the member',
  ],
  [
    'docker_compose_file',
    ({ runner, dockerComposeFile }) =>
      runner === 'docker-compose' && !text(dockerComposeFile) ? 'none' : undefined,
    'runner docker-compose needs the text of a compose file',
  ],
  [
    'docker_compose_file',
    ({ runner, dockerComposeFile }) => (runner === 'bash' && text(dockerComposeFile) ? 'a text' : undefined),
    'runner bash does not run a compose file; remove the member',
  ],
  [
    'bash_script',
    ({ runner, bashScript }) => (runner === 'bash' && bashScript === undefined ? 'none' : undefined),
    'runner bash needs the text of a script',
  ],
  [
    'bash_script',
    ({ runner, bashScript }) => (runner !== 'bash' && text(bashScript) ? 'a text' : undefined),
    'only runner bash runs it; remove the member',
  ],
  [
    'features',
    ({ features }) => features.find((name) => !KNOWN_FEATURES.includes(name)),
    'this guest does not know the feature; remove it',
  ],
  [
    'docker_config',
    ({ hasDockerConfig }) => (hasDockerConfig ? 'a value' : undefined),
    'this guest does not log in to a registry; remove the member and log in from pre_launch_script',
  ],
  [
    'gateway_enabled',
    ({ gatewayEnabled }, { gateway }) => (gatewayEnabled && !gateway ? 'true' : undefined),
    'this machine makes no tunnel to a gateway; set gateway_enabled to false (and remove tproxy_enabled and feature tproxy-net)',
  ],
  [
    'gateway_enabled',
    ({ gatewayEnabled, keyProvider }) =>
      gatewayEnabled && keyProvider !== 'kms' ? `key_provider ${keyProvider}` : undefined,
    'gateways know machines by the certificates of a key service; use key_provider kms, or set gateway_enabled to false',
  ],
  [
    'gateway_enabled',
    ({ gatewayEnabled, noInstanceId }) =>
      gatewayEnabled && noInstanceId ? 'no_instance_id true' : undefined,
    'gateways know machines by their instance id; set no_instance_id or gateway_enabled to false',
  ],
  [
    'port_policy',
    ({ gatewayEnabled, portPolicy: { ports, restrictMode } }) => {
      if (gatewayEnabled) return undefined;
      return restrictMode ? 'restrict_mode true' : ports.length > 0 ? `${ports.length} ports` : undefined;
    },
    'only a gateway enforces it; set gateway_enabled to true, or remove the member',
  ],
  [
    'port_policy',
    ({ portPolicy: { ports } }) => (ports.some(({ port }) => port === 0) ? 'port 0' : undefined),
    'ports are 1 to 65535',
    '1 to 65535',
  ],
  [
    'seal_approval_key',
    ({ sealApprovalKey, keyProvider }) =>
      sealApprovalKey.length > 0 && keyProvider !== 'tpm' ? `key_provider ${keyProvider}` : undefined,
    'only key_provider tpm seals anything; remove the member',
  ],
  [
    'seal_approval_key',
    ({ sealApprovalKey: key }) =>
      key.length === 0 || isP256Key(key) ? undefined : `${key.length} bytes that are no such key`,
    'it is the SPKI DER of a P-256 key in hex: openssl pkey -in KEY -pubout -outform DER | xxd -p -c 0',
  ],
  [
    'swap_size',
    ({ swapSize }, { swap }) => (swapSize > 0n && !swap ? `${swapSize} bytes` : undefined),
    'this machine sets up no swap; set swap_size to 0',
    '0',
  ],
  [
    'storage_fs',
    ({ storageFs = DEFAULT_FILE_SYSTEM }, { fileSystems }) =>
      fileSystems === 'any' || fileSystems.includes(storageFs.toLowerCase()) ? undefined : storageFs,
    'the kernel of this machine does not have the file system; set storage_fs to ext4',
    'ext4',
  ],
  [
    'verity_volumes',
    ({ verityVolumes }) => (verityVolumes.length > 0 ? `${verityVolumes.length} volumes` : undefined),
    'this guest mounts no verity volumes; remove the member',
  ],
  [
    'requirements.health_check',
    ({ requirements }) => (requirements?.health_check ? 'true' : undefined),
    'this guest reports no health to a gateway; remove the member',
  ],
  [
    'requirements.health_status_file',
    ({ requirements }) => (text(requirements?.health_status_file ?? undefined) ? 'a path' : undefined),
    'this guest reports no health to a gateway; remove the member',
  ],
];

/** Every member that the guest would have to refuse. */
export function unsupportedMembers(compose: AppCompose, machine: MachineAbilities): UnsupportedMember[] {
  return RULES.flatMap(([member, look, problem, expected]) => {
    const found = look(compose, machine);
    return found === undefined
      ? []
      : [{ member, problem, found, ...(expected === undefined ? {} : { expected }) }];
  });
}
