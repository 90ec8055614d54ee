// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

/// @title A policy that counts its changes
/// @notice ERC-165 id 0xa921d322. Readers that know a decision may keep it as long as the count is the same.
interface IPolicyEpoch {
    /// @notice Grows with every change that can alter a decision of this contract.
    /// @return epoch number of changes so far; 0 if there was none since the contract counts
    function policyEpoch() external view returns (uint64 epoch);
}
