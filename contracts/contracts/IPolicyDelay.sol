// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

/// @title A policy whose owner cannot loosen it at once
interface IPolicyDelay {
    /// @notice Seconds for which each loosening of the policy is public before it can be made.
    /// @return delay in seconds; 0 for none
    function policyDelay() external view returns (uint64 delay);

    /// @notice Since when has every loosening been public for at least so many seconds?
    /// @param secs how many
    /// @return since unix time; 0 if it is not so now
    function policyDelaySince(uint64 secs) external view returns (uint64 since);
}
