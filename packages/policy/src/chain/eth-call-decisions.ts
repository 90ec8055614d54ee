import { toHex } from '@dstack-cloud/encoding';
import { BoundedMap, cachedPromise } from '@dstack-cloud/runtime';
import { PolicyError } from '../errors.ts';
import { publicText } from '../public-text.ts';
import type { ChainSettings } from './chain-options.ts';
import {
  decodeBoolean,
  decodeDecision,
  decodeText,
  encodeGetter,
  encodeIsPolicy,
} from './contracts/contract-calls.ts';
import type { ContractDecision, DecisionReader, DecisionRequest } from './decision-reader.ts';
import { DelayByCalls } from './delay-by-calls.ts';
import { readContract } from './read-contract.ts';
import type { Block } from './rpc/block.ts';
import { type CallResult, Reverted } from './rpc/pinned-calls.ts';
import type { ChainSnapshot } from './snapshot/read-snapshot.ts';

const MAX_GATEWAY_APP_ID = 256;
/** Facts of the contract are kept for so many blocks: head and finalized block of a few snapshots. */
const MAX_BLOCKS = 8;

/** What the KMS contract says at a block, whoever asks. */
type ContractFacts = Pick<ContractDecision, 'gatewayAppId'>;

/** Verdicts by `eth_call`, pinned to the block; a quorum of endpoints must give the same bytes. */
export function ethCallDecisions(settings: ChainSettings): DecisionReader {
  const { kmsContract } = settings;
  const delays = settings.requireTimelockSeconds === undefined ? undefined : new DelayByCalls(settings);
  const contractFacts = new BoundedMap<string, Promise<ContractFacts>>(MAX_BLOCKS);

  /** Read once for each block, by whoever comes first. */
  const factsAt = (snapshot: ChainSnapshot, block: Block): Promise<ContractFacts> =>
    cachedPromise(contractFacts, block.hash, async () => {
      const calls = [encodeGetter('gatewayAppId'), encodeIsPolicy()];
      return factsOf(await readContract(snapshot.endpoints, settings, block, kmsContract, calls));
    });

  /** Only asked of what the contracts allow. */
  const delayDenial = async (
    snapshot: ChainSnapshot,
    block: Block,
    { kind, info }: DecisionRequest,
  ): Promise<string | undefined> => {
    if (!delays) return undefined;
    const both = [
      delays.denial(snapshot, block, 'KMS', kmsContract.toLowerCase()),
      ...(kind === 'app' ? [delays.denial(snapshot, block, 'App', `0x${toHex(info.appId)}`)] : []),
    ];
    return (await Promise.all(both)).find((denial) => denial !== undefined);
  };

  return async (snapshot, block, request) => {
    // Both in one exchange: they are asked in the same tick.
    const [[decision], facts] = await Promise.all([
      readContract(snapshot.endpoints, settings, block, kmsContract, [request.call]),
      factsAt(snapshot, block),
    ]);
    const answer = { ...decisionOf(decision), ...facts };
    const denial = answer.allowed ? await delayDenial(snapshot, block, request) : undefined;
    return denial === undefined ? answer : { ...facts, allowed: false, reason: denial };
  };
}

/** An app contract that reverts or answers nonsense allows nothing. */
function decisionOf(result: CallResult | undefined): Pick<ContractDecision, 'allowed' | 'reason'> {
  const decision = typeof result === 'string' ? decodeDecision(result) : undefined;
  if (decision) return decision;
  const said = result instanceof Reverted && result.reason !== '' ? `: ${result.reason}` : '';
  return { allowed: false, reason: publicText(`App authorization call failed${said}`) };
}

function factsOf([gateway, isPolicy]: readonly CallResult[]): ContractFacts {
  assertPolicyContract(isPolicy);
  return { gatewayAppId: gatewayOf(gateway) };
}

/** @throws PolicyError `chain-mismatch` when the contract names none */
export function gatewayOf(result: CallResult | undefined): string {
  const gateway = typeof result === 'string' ? decodeText(result) : undefined;
  if (gateway !== undefined && gateway.length <= MAX_GATEWAY_APP_ID) return gateway;
  throw new PolicyError('chain-mismatch', 'The KMS contract has no usable gatewayAppId');
}

/** ERC-165: without it the address is no DstackKms, or the chain is not the one meant. */
export function assertPolicyContract(result: CallResult | undefined): void {
  if (typeof result === 'string' && decodeBoolean(result) === true) return;
  throw new PolicyError('chain-mismatch', 'There is no DstackKms contract at the configured address');
}
