import { isRevert } from '@dstack-cloud/contracts/tasks';
import { BaseError, TimeoutError } from 'viem';
import { GovernanceError } from '../errors.ts';

/**
 * The answer, or `undefined` when the contract itself says that it lacks the function. An endpoint that does not answer has
 * not said so.
 * @throws GovernanceError `chain-unreachable`
 */
export async function ifPresent<T>(reading: Promise<T>): Promise<T | undefined> {
  return await reading.catch((error: unknown) => {
    if (isRevert(error)) return undefined;
    throw unreachable(error);
  });
}

/** An answer that has to be there. @throws GovernanceError `chain-unreachable`, or what `absent` makes */
export async function requirePresent<T>(reading: Promise<T>, absent: () => GovernanceError): Promise<T> {
  const found = await ifPresent(reading);
  if (found === undefined) throw absent();
  return found;
}

/** Whether no answer came in time at all. */
export function isUnanswered(error: unknown): boolean {
  return error instanceof BaseError && error.walk((one) => one instanceof TimeoutError) !== null;
}

/** Errors of viem have the URL of the endpoint, and with it perhaps a key: none is a cause here. */
export function unreachable(error: unknown): unknown {
  if (!(error instanceof BaseError)) return error;
  return new GovernanceError(
    'chain-unreachable',
    `The chain cannot be read: ${error.shortMessage.split('\n')[0]}`,
    {
      hint: 'Check the endpoint, or name another one',
    },
  );
}
