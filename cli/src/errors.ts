/** Stable codes of the errors that the command line itself raises. Errors of the packages keep their own. */
export type CliErrorCode =
  | 'app_not_registered'
  | 'audit_broken'
  | 'bad_app_json'
  | 'bad_argument'
  | 'bad_compose_file'
  | 'bad_config'
  | 'bad_env'
  | 'boot_failed'
  | 'busy'
  | 'chain_unreachable'
  | 'cloud_refused'
  | 'cloud_unreachable'
  | 'compose_hash_not_allowed'
  | 'engine_missing'
  | 'exists'
  | 'file_missing'
  | 'interrupted'
  | 'kms_unreachable'
  | 'kms_untrusted'
  | 'no_credentials'
  | 'no_editor'
  | 'no_key'
  | 'no_project'
  | 'not_deployed'
  | 'not_owner'
  | 'not_verified'
  | 'not_yet'
  | 'refused'
  | 'state_damaged'
  | 'timed_out'
  | 'unreachable'
  | 'usage';

/** Exit codes of the command line. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  refused: 4,
  timedOut: 124,
  interrupted: 130,
} as const;

interface Details {
  /** What the user can do about it. */
  readonly hint?: string;
  readonly exitCode?: number;
  readonly expected?: string;
  readonly found?: string;
  readonly cause?: unknown;
}

/** An error that a user can act on. */
export class CliError extends Error {
  readonly code: CliErrorCode;
  readonly hint: string | undefined;
  readonly exitCode: number;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(code: CliErrorCode, message: string, details: Details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'CliError';
    this.code = code;
    this.hint = details.hint;
    this.exitCode = details.exitCode ?? EXIT.failure;
    this.expected = details.expected;
    this.found = details.found;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
