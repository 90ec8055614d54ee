import { PolicyError } from '../errors.ts';
import type { ChainSettings } from './chain-options.ts';
import { decodeBoolean, decodeDecision, decodeText, encodeGetter, encodeIsPolicy } from './contract-calls.ts';
import type { CallResult } from './pinned-calls.ts';
import { readContract } from './read-contract.ts';
import type { Verdict, VerdictReader } from './verdict-reader.ts';

const MAX_GATEWAY_APP_ID = 256;
/** Facts of the contract are kept for so many blocks: head and settled block of a few views. */
const MAX_BLOCKS = 8;

/** What the KMS contract says at a block, whoever asks. */
type ContractFacts = Pick<Verdict, 'gatewayAppId'>;

/** Verdicts by `eth_call`, pinned to the block; a quorum of endpoints must give the same bytes. */
export function ethCallVerdicts({ quorum, kmsContract }: ChainSettings): VerdictReader {
  const contractFacts = new Map<string, ContractFacts>();
  return async (view, block, { call }) => {
    const read = (calls: string[]): Promise<readonly CallResult[]> =>
      readContract(view.endpoints, quorum, block, kmsContract, calls);
    const known = contractFacts.get(block.hash);
    if (known) return { ...decisionOf((await read([call]))[0]), ...known };

    const [decision, ...rest] = await read([call, encodeGetter('gatewayAppId'), encodeIsPolicy()]);
    const facts = factsOf(rest);
    contractFacts.set(block.hash, facts);
    if (contractFacts.size > MAX_BLOCKS) contractFacts.delete(contractFacts.keys().next().value!);
    return { ...decisionOf(decision), ...facts };
  };
}

/** An app contract that reverts or answers nonsense allows nothing (chapter 60 section 5.1). */
function decisionOf(result: CallResult | undefined): Pick<Verdict, 'allowed' | 'reason'> {
  return decodeDecision(result ?? '') ?? { allowed: false, reason: 'App authorization call failed' };
}

function factsOf([gateway, isPolicy]: readonly CallResult[]): ContractFacts {
  assertPolicyContract(isPolicy);
  return { gatewayAppId: gatewayOf(gateway) };
}

/** @throws PolicyError `chain-mismatch` when the contract names none */
export function gatewayOf(result: CallResult | undefined): string {
  const gateway = decodeText(result ?? '');
  if (gateway !== undefined && gateway.length <= MAX_GATEWAY_APP_ID) return gateway;
  throw new PolicyError('chain-mismatch', 'The KMS contract has no usable gatewayAppId');
}

/** ERC-165: without it the address is no DstackKms, or the chain is not the one meant. */
export function assertPolicyContract(result: CallResult | undefined): void {
  if (decodeBoolean(result ?? '') === true) return;
  throw new PolicyError('chain-mismatch', 'There is no DstackKms contract at the configured address');
}
