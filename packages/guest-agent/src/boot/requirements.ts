import { createHash } from 'node:crypto';
import type { AppCompose } from '@dstack-cloud/app';
import { parseStrictJson, type StrictJson } from '@dstack-cloud/app';
import { fromHex, toHex, utf8, utf8Text } from '@dstack-cloud/encoding';
import { GuestError } from '../errors.ts';
import { satisfies } from './version-range.ts';

/** What the machine can say about itself when an application demands something of it. */
export interface MachineFacts {
  /** Attestation mode, for example `dstack-tdx`. */
  readonly platform: string;
  /** `VERSION_ID` of os-release; undefined when unreadable. */
  readonly osVersion: string | undefined;
  readonly userConfig: Uint8Array | undefined;
}

/** Shortest launch token, characters (chapter 30 section 2.1). */
const MIN_TOKEN = 32;

/**
 * Holds `requirements` of app-compose against the machine. What this guest cannot check is a refusal, never a yes.
 *
 * @throws GuestError `requirement-not-met`
 */
export function checkRequirements(compose: AppCompose, machine: MachineFacts): void {
  const wanted = compose.requirements;
  if (wanted === undefined) return;
  const refuse = (problem: string, expected: string, found: string): never => {
    throw new GuestError('requirement-not-met', `Requirement not met: ${problem}`, { expected, found });
  };
  if (wanted.platforms && !wanted.platforms.includes(machine.platform)) {
    refuse(`platform ${machine.platform} is not listed`, wanted.platforms.join(', '), machine.platform);
  }
  if (wanted.os_version) {
    const found = machine.osVersion ?? 'unknown';
    if (machine.osVersion === undefined || !satisfies(machine.osVersion, wanted.os_version)) {
      refuse(`os_version ${wanted.os_version}`, wanted.os_version, found);
    }
  }
  if (wanted.launch_token_hash) {
    const expected = wanted.launch_token_hash.toLowerCase();
    const token = launchToken(machine.userConfig);
    const found = token === undefined ? 'no token in .user-config' : toHex(launchTokenHash(token));
    if (found !== expected) refuse('the launch token', expected, found);
  }
  if (wanted.tdx_measure_acpi_tables)
    refuse('tdx_measure_acpi_tables', 'measured ACPI tables', 'not supported');
  if (wanted.gpu_policy?.attest_gpu) refuse('gpu_policy', 'GPU attestation', 'not supported by this guest');
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
  return typeof token === 'string' && token.length >= MIN_TOKEN ? token : undefined;
}

function member(value: StrictJson | undefined, name: string): StrictJson | undefined {
  const isObject = value !== null && typeof value === 'object' && !Array.isArray(value);
  return isObject && Object.hasOwn(value, name) ? (value as Record<string, StrictJson>)[name] : undefined;
}
