/** Small contracts with the counter of chapter 60 section 5, for a real node. */
import { createRequire } from 'node:module';
import type { Abi, Hex } from 'viem';

const SOURCE = `
// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.24;

struct Boot {
    address appId; bytes32 composeHash; address instanceId; bytes32 deviceId; bytes32 mrAggregated;
    bytes32 mrSystem; bytes32 osImageHash; string tcbStatus; string[] advisoryIds;
}

abstract contract Counting {
    uint64 public policyEpoch;
    address public implementation = address(1);

    function supportsInterface(bytes4 id) external pure returns (bool) {
        return id == 0x01ffc9a7 || id == 0x1e079198 || id == 0xa921d322;
    }
    function isAppAllowed(Boot calldata boot) external view virtual returns (bool, string memory);
}

contract CountingApp is Counting {
    mapping(bytes32 => bool) allowed;
    mapping(bytes32 => uint64) public composeHashNotAfter;

    function set(bytes32 hash, bool allow, uint64 notAfter) external {
        allowed[hash] = allow;
        composeHashNotAfter[hash] = notAfter;
        policyEpoch++;
    }
    function isAppAllowed(Boot calldata boot) external view override returns (bool, string memory) {
        if (!allowed[boot.composeHash]) return (false, "Compose hash not allowed");
        uint64 end = composeHashNotAfter[boot.composeHash];
        if (end != 0 && block.timestamp > end) return (false, "Compose hash expired");
        return (true, "");
    }
}

contract CountingKms is Counting {
    mapping(bytes32 => bool) allowed;
    mapping(bytes32 => uint64) public osImageNotAfter;
    mapping(address => uint64) public appNotAfter;
    string public gatewayAppId = "gateway";

    function set(bytes32 image, bool allow) external {
        allowed[image] = allow;
        policyEpoch++;
    }
    function isAppAllowed(Boot calldata boot) external view override returns (bool, string memory) {
        if (!allowed[boot.osImageHash]) return (false, "OS image is not allowed");
        return Counting(boot.appId).isAppAllowed(boot);
    }
}`;

type Compiled = { readonly abi: Abi; readonly bytecode: Hex };

/** Compiles them; about a second. */
export function countingContracts(): { readonly app: Compiled; readonly kms: Compiled } {
  const require = createRequire(import.meta.url);
  const solc = require('solc') as { compile(input: string): string };
  const input = {
    language: 'Solidity',
    sources: { 'counting.sol': { content: SOURCE } },
    settings: { evmVersion: 'paris', outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } } },
  };
  const { contracts } = JSON.parse(solc.compile(JSON.stringify(input))) as {
    contracts: Record<string, Record<string, { abi: Abi; evm: { bytecode: { object: string } } }>>;
  };
  const of = (name: string): Compiled => {
    const contract = contracts['counting.sol']![name]!;
    return { abi: contract.abi, bytecode: `0x${contract.evm.bytecode.object}` };
  };
  return { app: of('CountingApp'), kms: of('CountingKms') };
}
