import type { PolicyInfo } from '../policy.ts';
import type { ChainSettings } from './chain-options.ts';
import { checksumAddress } from './contracts/checksum-address.ts';
import { decodeAddress, encodeGetter, encodeIsPolicy } from './contracts/contract-calls.ts';
import { assertPolicyContract, gatewayOf } from './eth-call-decisions.ts';
import { readContract } from './read-contract.ts';
import type { ChainSnapshot } from './snapshot/read-snapshot.ts';

/** What DstackKms says of itself at the head of a snapshot. */
export type ContractInfo = Required<Pick<PolicyInfo, 'gatewayAppId' | 'appImplementation'>>;

/** @throws PolicyError when it cannot be learned */
export type InfoReader = (snapshot: ChainSnapshot) => Promise<ContractInfo>;

/** By `eth_call`; a quorum of endpoints must give the same bytes. */
export function ethCallInfo(settings: ChainSettings): InfoReader {
  return async ({ endpoints, head }) => {
    const calls = [encodeGetter('gatewayAppId'), encodeGetter('appImplementation'), encodeIsPolicy()];
    const results = await readContract(endpoints, settings, head, settings.kmsContract, calls);
    const [gateway, implementation, isPolicy] = results;
    assertPolicyContract(isPolicy);
    const address = typeof implementation === 'string' ? decodeAddress(implementation) : undefined;
    return {
      gatewayAppId: gatewayOf(gateway),
      appImplementation: address === undefined ? '' : checksumAddress(address),
    };
  };
}
