import { createHash } from 'node:crypto';
import { fromHex, toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import type { AppCompose } from './app-compose.ts';
import { AppError } from './errors.ts';
import { parseStrictJson, type StrictJson } from './strict-json.ts';
import { parseVersion, parseVersionRange, satisfies } from './version-range.ts';

/** What the machine can say about itself when an application demands something of it. */
export interface MachineFacts {
  /** Attestation mode, for example `dstack-tdx`. */
  readonly platform: string;
  /** `VERSION_ID` of os-release; undefined when unreadable. */
  readonly osVersion: string | undefined;
  readonly userConfig: Uint8Array | undefined;
  /** Graphics processors that are attached; undefined when that cannot be found out. */
  readonly gpus: number | undefined;
}

/** Shortest launch token. */
const MIN_TOKEN_BYTES = 32;

/**
 * Holds `requirements` of app-compose against the machine. A member that is null or absent demands nothing; an empty
 * one is a demand that nothing meets, and what this guest cannot check is a refusal, never a yes.
 *
 * @throws AppError `requirement-not-met`
 */
export function checkRequirements({ requirements: wanted }: AppCompose, machine: MachineFacts): void {
  if (wanted === undefined) return;
  const refuse = (problem: string, expected: string, found: string): never => {
    throw new AppError('requirement-not-met', `Requirement not met: ${problem}`, { expected, found });
  };
  if (wanted.platforms && !wanted.platforms.includes(machine.platform)) {
    const listed = wanted.platforms.join(', ') || 'an empty list';
    refuse(`platforms: ${machine.platform} is not listed`, listed, machine.platform);
  }
  if (typeof wanted.os_version === 'string') {
    const range = parseVersionRange(wanted.os_version);
    if (range === undefined)
      refuse('os_version: this is no version requirement', 'for example ">=0.6, <0.8"', wanted.os_version);
    const version = parseVersion(completed(machine.osVersion ?? ''));
    if (range === undefined || version === undefined || !satisfies(version, range))
      refuse('os_version', wanted.os_version, machine.osVersion ?? 'a machine that names no version');
  }
  if (typeof wanted.launch_token_hash === 'string') {
    const expected = wanted.launch_token_hash.toLowerCase();
    const token = launchToken(machine.userConfig);
    const found = token === undefined ? 'no token in .user-config' : toHex(launchTokenHash(token));
    if (found !== expected) refuse('launch_token_hash', expected || 'an empty hash', found);
  }
  if (wanted.tdx_measure_acpi_tables)
    refuse('tdx_measure_acpi_tables', 'measured ACPI tables', 'not supported by this guest');
  if (wanted.gpu_policy) {
    const { attest_gpu: attest, rego } = wanted.gpu_policy;
    // Also without a GPU it decides: on no claims at all.
    if (typeof rego === 'string') refuse('gpu_policy.rego', 'no Rego policy', 'not evaluated by this guest');
    if (attest && machine.gpus !== 0)
      refuse('gpu_policy.attest_gpu', 'no GPU, since this guest attests none', gpusText(machine.gpus));
  }
}

const gpusText = (gpus: number | undefined): string =>
  gpus === undefined ? 'a machine whose devices cannot be listed' : `${gpus} attached`;

/** os-release may leave out the last parts of a version, `VERSION_ID=13`. */
function completed(version: string): string {
  const missing = { 1: '.0.0', 2: '.0' }[version.split('.').length];
  return /^[0-9]+(?:\.[0-9]+)?$/.test(version) ? version + (missing ?? '') : version;
}

/** SHA-256("dstack-launch-token/v1:" || token), 32 bytes. */
export function launchTokenHash(token: string): Uint8Array {
  return fromHex(
    createHash('sha256')
      .update(utf8(`dstack-launch-token/v1:${token}`))
      .digest('hex'),
  );
}

function launchToken(userConfig: Uint8Array | undefined): string | undefined {
  if (userConfig === undefined) return undefined;
  let value: StrictJson;
  try {
    value = parseStrictJson(utf8Text(userConfig));
  } catch {
    return undefined;
  }
  const token = member(member(value, 'dstack'), 'launch_token');
  return typeof token === 'string' && utf8(token).length >= MIN_TOKEN_BYTES ? token : undefined;
}

function member(value: StrictJson | undefined, name: string): StrictJson | undefined {
  const isObject = value !== null && typeof value === 'object' && !Array.isArray(value);
  return isObject && Object.hasOwn(value, name) ? (value as Record<string, StrictJson>)[name] : undefined;
}
