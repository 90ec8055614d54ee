// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";

/// @title Anything that may decide whether a workload receives its keys
/// @notice The KMS forwards its question to the contract at the workload's app id, so an app may bring a
/// policy of its own as long as it answers this interface (ERC-165 id 0x1e079198).
interface IAppAuth is IERC165 {
    /// @notice What verified evidence says about a booting workload. The field order is part of the ABI.
    struct AppBootInfo {
        /// App id: the address of the app contract.
        address appId;
        /// SHA-256 of app-compose; on Nitro the OS image hash.
        bytes32 composeHash;
        /// 20-byte instance id.
        address instanceId;
        /// SHA-256 of the platform's hardware id.
        bytes32 deviceId;
        /// Aggregate of all measurement registers.
        bytes32 mrAggregated;
        /// Measurement of firmware, kernel and key provider.
        bytes32 mrSystem;
        /// Digest of the OS image; on Nitro SHA-256(PCR0, PCR1, PCR2).
        bytes32 osImageHash;
        /// "UpToDate" or another status of the TDX verification; empty without a TDX report.
        string tcbStatus;
        /// Advisories that apply to the platform, for example INTEL-SA-00837.
        string[] advisoryIds;
    }

    /// @param bootInfo the verified facts
    /// @return isAllowed true if keys may be released
    /// @return reason why not; empty when allowed
    function isAppAllowed(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason);
}
