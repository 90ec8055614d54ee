import { decodeRevert, explainRevert, revertData } from '@dstack-cloud/contracts/tasks';
import { type Address, type Hex, numberToHex, type PublicClient, toFunctionSelector } from 'viem';
import { GovernanceError } from '../errors.ts';
import { unreachable } from '../state/absent.ts';
import type { Call } from '../timelock/operation.ts';

/** JSON-RPC: the method does not exist, or is not granted. */
const NO_METHOD = [-32_601, -32_004, -32_600];
/** A contract with a policy delay has not heard of the call for long enough. */
const NOT_ANNOUNCED = toFunctionSelector('NotAnnounced(bytes32,uint64)');

/**
 * Makes the calls one after the other on the state of a block, without sending anything.
 * @param from who makes them in the end: the Timelock, the Safe, or an account
 * @param names of the calls, for the reason
 * @param isScheduled they are made by a Timelock later: it does not matter that a contract demands to know of them before
 * @returns whether each call saw the effects of those before it; some endpoints cannot do that
 * @throws GovernanceError `simulation-failed`, with the reason of the first call that fails
 */
export async function simulateCalls(
  client: PublicClient,
  from: Address,
  calls: readonly Call[],
  { names = [], isScheduled = false }: { names?: readonly string[]; isScheduled?: boolean } = {},
): Promise<{ inSequence: boolean }> {
  const isPassed = (data: Hex | undefined): boolean =>
    isScheduled && data?.startsWith(NOT_ANNOUNCED) === true;
  if (calls.length > 1) {
    const results = await simulateV1(client, from, calls);
    if (results !== undefined) {
      for (const index of calls.keys()) {
        const { status, error, returnData } = results[index] ?? {};
        // Endpoints differ in where they put what the contract says.
        const data = error?.data ?? returnData;
        if (status === '0x1' || isPassed(data)) continue;
        throw failed(names[index] ?? `call ${index + 1}`, reasonOf(data, error?.message));
      }
      return { inSequence: true };
    }
  }
  for (const [index, { to, value, data }] of calls.entries()) {
    const name = names[index] ?? `call ${index + 1}`;
    await client.call({ account: from, to, value, data }).catch((error: unknown) => {
      const explained = explainRevert(name, error);
      if (explained.code === 'chain-unreachable') throw unreachable(error);
      if (isPassed(revertData(error))) return;
      throw failed(name, explained.message.slice(`${name} is refused: `.length));
    });
  }
  return { inSequence: calls.length <= 1 };
}

type SimulatedCall = { status?: string; returnData?: Hex; error?: { message?: string; data?: Hex } };

/** `eth_simulateV1`, or undefined from an endpoint without it. */
async function simulateV1(
  client: PublicClient,
  from: Address,
  calls: readonly Call[],
): Promise<readonly SimulatedCall[] | undefined> {
  const request = client.request as (one: { method: string; params: unknown[] }) => Promise<unknown>;
  const block = {
    blockStateCalls: [
      { calls: calls.map(({ to, value, data }) => ({ from, to, value: numberToHex(value), input: data })) },
    ],
  };
  try {
    const answer = (await request({ method: 'eth_simulateV1', params: [block, 'latest'] })) as {
      calls?: unknown;
    }[];
    const results = answer[0]?.calls;
    return Array.isArray(results) ? (results as SimulatedCall[]) : undefined;
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (typeof code === 'number' && NO_METHOD.includes(code)) return undefined;
    throw unreachable(error);
  }
}

function reasonOf(data: Hex | undefined, message: string | undefined): string {
  return (data === undefined ? undefined : decodeRevert(data)) ?? message ?? 'it reverts';
}

/** Codes of Safe (docs/error_codes.md of Safe 1.4.1) that an operator meets. */
const safeErrors: Readonly<Record<string, string>> = {
  GS013: 'what the Safe calls fails',
  GS020: 'there are too few signatures',
  GS025: 'a signer has not approved it',
  GS026: 'a signature is by nobody who signs for the Safe',
  GS201: 'it would demand more signatures than signers',
  GS202: 'it would demand no signature at all',
  GS203: 'this cannot be a signer',
  GS204: 'it is a signer already',
  GS205: 'the signer before it in the list is another: propose it again',
};

function failed(name: string, reason: string): GovernanceError {
  return new GovernanceError(
    'simulation-failed',
    `On the present state of the chain this fails: ${name}: ${safeErrors[reason] ?? reason}`,
    {
      hint: 'Nothing was sent. See dstack-cloud gov status for what has changed',
    },
  );
}
