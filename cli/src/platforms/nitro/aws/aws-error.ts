import { CliError, messageOf } from '../../../errors.ts';

interface AwsFailure extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number | undefined };
  readonly code?: string;
}

/** AWS's word for a failure, such as `InvalidGroup.Duplicate`; undefined for what no service of AWS said. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && '$metadata' in error ? error.name : undefined;
}

export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return codes.includes(codeOf(error) ?? '');
}

/** The answer, or undefined when a service says with one of these codes that it is not there. */
export async function unless<T>(codes: readonly string[], asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (hasCode(error, ...codes)) return undefined;
    throw error;
  }
}

/** What is known about a refusal, and what the user can do. */
const KNOWN: readonly (readonly [pattern: RegExp, hint: string])[] = [
  [
    /VcpuLimitExceeded|InstanceLimitExceeded|LimitExceeded/,
    'Ask for more of this quota in the console (Service Quotas), or use another region or a smaller nitro_config.instance_type',
  ],
  [
    /InsufficientInstanceCapacity|Unsupported/,
    'This zone has no such instance now: set nitro_config.subnet_id to a subnet of another zone, or another nitro_config.instance_type',
  ],
  [
    /InvalidAMIID|InvalidKeyPair|InvalidSubnetID|InvalidGroup\.NotFound/,
    'Correct that member of nitro_config: the region has none of that name',
  ],
  [
    /UnauthorizedOperation|AccessDenied|AccessDeniedException/,
    'Give this identity the permissions that docs/nitro.md lists, or use another one (AWS_PROFILE)',
  ],
  [
    /ExpiredToken|RequestExpired|AuthFailure|InvalidClientTokenId|SignatureDoesNotMatch|UnrecognizedClient|InvalidAccessKeyId/,
    'Log in again (aws sso login, or new keys), and check the clock of this computer',
  ],
  [/OptInRequired/, 'Enable the region for this account in the console (Account, AWS Regions)'],
  [
    /Throttl|RequestLimitExceeded|SlowDown|ServiceUnavailable|InternalError/,
    'Run the same command again in a minute: it goes on where it was',
  ],
];

/** AWS's refusal as an error for people: what was being done, what AWS says, what to do. */
export function explainAws(what: string, error: unknown): Error {
  if (error instanceof CliError) return error;
  const { name, code, $metadata } = error as AwsFailure;
  if (name === 'CredentialsProviderError' || name === 'TokenProviderError')
    return new CliError('no_credentials', `There are no usable credentials for AWS: ${messageOf(error)}`, {
      hint: 'Run aws configure or aws sso login, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
      cause: error,
    });
  if (name === 'AbortError') return error as Error;
  if ($metadata?.httpStatusCode === undefined) {
    const isNetwork = code !== undefined && /^(E[A-Z]+|UND_)/.test(code);
    if (!isNetwork && name !== 'TimeoutError') return error as Error;
    return new CliError('cloud_unreachable', `${what}: ${messageOf(error) || code}`, {
      hint: 'Check the network of this computer and nitro_config.region, then run the same command again: it goes on where it was',
      found: code ?? name,
      cause: error,
    });
  }
  const hint = KNOWN.find(([pattern]) => pattern.test(name))?.[1];
  return new CliError('cloud_refused', `${what}: ${messageOf(error)}`, {
    ...(hint === undefined ? {} : { hint }),
    found: `${name} (${$metadata.httpStatusCode})`,
    cause: error,
  });
}
