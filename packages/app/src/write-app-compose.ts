import { utf8 } from '@dstack-cloud/encoding';
import { AppError } from './errors.ts';
import type { KeyProviderKind } from './key-provider.ts';

/** What the command line puts into app-compose.json. */
export interface AppComposeFields {
  readonly name: string;
  /** YAML text; CRLF becomes LF. */
  readonly dockerComposeFile: string;
  readonly gatewayEnabled: boolean;
  readonly publicLogs: boolean;
  readonly publicSysinfo: boolean;
  readonly publicTcbinfo: boolean;
  /** Hex, empty = any provider. */
  readonly keyProviderId: string;
  /** Kept in order; repeated names are dropped. */
  readonly allowedEnvs: readonly string[];
  readonly noInstanceId: boolean;
  readonly secureTime: boolean;
  readonly keyProvider: KeyProviderKind;
  readonly storageFs: string;
  /** Script text, empty when there is none; CRLF becomes LF. */
  readonly preLaunchScript: string;
  readonly runner?: string;
  readonly manifestVersion?: number | string;
  /** Further members, written after the others in their own order. */
  readonly extra?: Readonly<Record<string, unknown>>;
}

/** Text read with universal newlines: CRLF and CR become LF. */
export function universalNewlines(text: string): string {
  return text.replace(/\r\n?/g, '\n');
}

/**
 * The bytes of app-compose.json. Their SHA-256 is the compose hash, so every rule counts: fixed member order,
 * two-space indentation, ASCII only (`\uXXXX` in lower case), no final newline.
 *
 * @throws AppError `app-compose-invalid` when an extra member repeats one of the fixed ones
 */
export function writeAppCompose(fields: AppComposeFields): Uint8Array {
  const members: Record<string, unknown> = {
    manifest_version: fields.manifestVersion ?? 2,
    name: fields.name,
    runner: fields.runner ?? 'docker-compose',
    docker_compose_file: universalNewlines(fields.dockerComposeFile),
    gateway_enabled: fields.gatewayEnabled,
    public_logs: fields.publicLogs,
    public_sysinfo: fields.publicSysinfo,
    public_tcbinfo: fields.publicTcbinfo,
    key_provider_id: fields.keyProviderId,
    allowed_envs: [...new Set(fields.allowedEnvs)],
    no_instance_id: fields.noInstanceId,
    secure_time: fields.secureTime,
    key_provider: fields.keyProvider,
    storage_fs: fields.storageFs,
    pre_launch_script: universalNewlines(fields.preLaunchScript),
  };
  for (const [name, value] of Object.entries(fields.extra ?? {})) {
    if (name in members) {
      throw new AppError('app-compose-invalid', `app-compose.json: ${name} is given twice`, { found: name });
    }
    members[name] = value;
  }
  return utf8(asciiOnly(JSON.stringify(members, null, 2)));
}

function asciiOnly(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
