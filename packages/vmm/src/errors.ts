/** Everything that can go wrong when a machine is made, started, watched or removed. */
export type VmmErrorCode =
  | 'already_exists'
  | 'already_running'
  | 'bad_config'
  | 'bad_image'
  | 'bad_manifest'
  | 'bad_option'
  | 'boot_failed'
  | 'damaged'
  | 'engine_down'
  | 'listen_failed'
  | 'locked'
  | 'moved'
  | 'no_resources'
  | 'no_space'
  | 'not_found'
  | 'not_ours'
  | 'not_running'
  | 'port_in_use'
  | 'program_missing'
  | 'registry_failed'
  | 'running'
  | 'start_failed'
  | 'timeout';

/** The only error class of this package. `expected` and `found` are filled where a check failed. */
export class VmmError extends Error {
  readonly code: VmmErrorCode;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(
    code: VmmErrorCode,
    message: string,
    details: { cause?: unknown; expected?: string; found?: string } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'VmmError';
    this.code = code;
    this.expected = details.expected;
    this.found = details.found;
  }
}
