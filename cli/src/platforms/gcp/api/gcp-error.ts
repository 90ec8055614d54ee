import { CliError } from '../../../errors.ts';

/** An error of Google's APIs: of a request, or of an operation. */
export class GcpError extends Error {
  /** HTTP status; 0 when nothing answered. */
  readonly status: number;
  /** Google's word for it, such as `notFound` or `QUOTA_EXCEEDED`. */
  readonly reason: string;

  constructor(status: number, reason: string, message: string, options: ErrorOptions = {}) {
    super(message, options);
    this.status = status;
    this.reason = reason;
    this.name = 'GcpError';
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof GcpError && error.status === 404;
}

export function isConflict(error: unknown): boolean {
  return error instanceof GcpError && error.status === 409;
}

/** What is known about a refusal, and what the user can do. */
const KNOWN: readonly (readonly [test: (error: GcpError) => boolean, hint: string])[] = [
  [
    ({ reason, message }) => /QUOTA|quotaExceeded/.test(reason) || /quota/i.test(message),
    'Ask for more of this quota in the console (IAM & Admin, Quotas), or use another region or a smaller gcp_config.machine_type',
  ],
  [
    ({ reason }) => /ZONE_RESOURCE_POOL_EXHAUSTED/.test(reason),
    'The zone has no free machine of this type now: try later, or set another gcp_config.zone that has TDX (dstack-cloud doctor lists them)',
  ],
  [
    ({ message }) => /TDX_CAPABLE/.test(message),
    'The boot image was not made for TDX: leave gcp_config.boot_image empty, so that deploy makes one',
  ],
  [
    ({ message }) => /confidential instance type TDX/.test(message),
    'Set gcp_config.machine_type to c3-standard-4, -8, -22, -44, -88 or -176',
  ],
  [({ message }) => /field 'zone'/.test(message), 'Correct gcp_config.zone: there is no zone of that name'],
  [
    ({ message }) => /machineTypes\//.test(message),
    'This zone does not have that machine type: TDX is in some zones only (dstack-cloud doctor lists them); set gcp_config.zone',
  ],
  [
    ({ message }) => /has not been used in project|is disabled|accessNotConfigured/.test(message),
    'Enable the API for the project: gcloud services enable compute.googleapis.com storage.googleapis.com',
  ],
  [
    ({ status, message }) => status === 404 && /'?projects\/[^/']+'? was not found/.test(message),
    'Correct gcp_config.project: this account sees no project of that id',
  ],
  [
    ({ status }) => status === 403,
    'Give this account the roles compute.instanceAdmin.v1, compute.securityAdmin and storage.admin in the project, or use another one',
  ],
  [
    ({ status }) => status === 401,
    'Log in again: gcloud auth application-default login; and check the clock of this computer',
  ],
  [
    ({ status }) => status === 0,
    'Check the network of this computer, then run the same command again: it goes on where it was',
  ],
  [
    ({ status }) => status === 429 || status >= 500,
    'Run the same command again in a minute: it goes on where it was',
  ],
];

/** Google's refusal as an error for people: what was being done, what Google says, what to do. */
export function explainGcp(what: string, error: unknown): Error {
  if (!(error instanceof GcpError)) return error as Error;
  const hint = KNOWN.find(([test]) => test(error))?.[1];
  const code = error.status === 0 ? 'cloud_unreachable' : 'cloud_refused';
  return new CliError(code, `${what}: ${error.message}`, {
    ...(hint === undefined ? {} : { hint }),
    found: error.status === 0 ? error.reason : `${error.reason} (${error.status})`,
    cause: error,
  });
}
