import { CliError, messageOf } from '../errors.ts';
import type { ProjectState } from '../project/state-file.ts';

/** Reasons of the contracts and of the key service, and what the user can do about each. */
const HINTS: readonly (readonly [RegExp, (state: ProjectState, command: string) => string])[] = [
  [
    /Compose hash not allowed/,
    (state, command) =>
      `The owner of the app allows this compose file with\ndstack-cloud app allow${command === 'start' ? ` ${state.compose_hash}` : ''}\nand then dstack-cloud ${command}`,
  ],
  [
    /App not (registered|deployed)/,
    () => 'Make the app contract with dstack-cloud app create, then dstack-cloud deploy',
  ],
  [
    /OS image is not allowed/,
    (state) => `The owner of the KMS contract must allow OS image ${state.os_image_hash}`,
  ],
  [
    /owner may give approval \d+ of policy/,
    (_, command) =>
      `The TPM keeps its seed for the system of before. To approve this one, keep this message in a file and run dstack-cloud seal approve FILE in the project, then dstack-cloud ${command}`,
  ],
  [/Device not allowed/, () => 'The owner of the app must allow this device, or any device'],
  [
    /ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENOTFOUND|timed out|connect/i,
    () => 'Check that the KMS runs and that services.kms_urls is right (dstack-cloud config-edit)',
  ],
];

/** Turns a failed start into an error that names the next step. */
export function explainBoot(error: unknown, state: ProjectState, command: 'deploy' | 'start'): Error {
  const code = (error as { code?: unknown }).code;
  if (code !== 'boot_failed' && code !== 'start_failed')
    return error instanceof Error ? error : new Error(messageOf(error));
  const message = messageOf(error);
  const hint = HINTS.find(([pattern]) => pattern.test(message))?.[1](state, command);
  return new CliError('boot_failed', message, {
    hint: hint ?? 'Read the console with dstack-cloud logs',
    cause: error,
  });
}
