// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

/// @dev An implementation with which whoever upgraded to it can write whatever is to be found there later.
contract ForeignCode {
    function proxiableUUID() external pure returns (bytes32) {
        return 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;
    }

    function write(uint256 slot, uint256 value) external {
        assembly ("memory-safe") {
            sstore(slot, value)
        }
    }

    function policyDelaySince(uint64) external pure returns (uint64) {
        return 1;
    }

    /// @dev Allows everybody.
    fallback(bytes calldata) external returns (bytes memory) {
        return abi.encode(true, "");
    }
}
