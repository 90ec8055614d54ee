// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {PolicyGovernance} from "./PolicyGovernance.sol";

/// @title What a KMS domain's registry holds
/// @notice The published identity, the allowed images, measurements, devices and apps, and what takes them away.
/// @dev All storage of DstackKms, and nothing else has any, so that the order in which the topics are inherited decides
/// no slot. Slots 0 to 59 are shared with the 0.6 line and its successors, so that a proxy can move between
/// implementations in both directions. New state lies in the ERC-7201 namespace, append only.
abstract contract KmsStorage is PolicyGovernance {
    /// @notice Public identity of the KMS.
    struct KmsInfo {
        /// Compressed secp256k1 public key of the root.
        bytes k256Pubkey;
        /// Public key of the root certificate authority.
        bytes caPubkey;
        /// Evidence of the KMS at bootstrap.
        bytes quote;
        /// Event log that belongs to the evidence.
        bytes eventlog;
    }

    /// @custom:storage-location erc7201:dstack.storage.DstackKmsExt
    struct DstackKmsExt {
        uint64 epoch;
        bool paused;
        mapping(address account => bool) guardians;
        mapping(address appId => bool) blocked;
        mapping(bytes32 osImageHash => uint64) osNotAfter;
        mapping(address appId => uint64) appNotAfter;
        mapping(bytes32 advisoryHash => bool) deniedAdvisories;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("dstack.storage.DstackKmsExt")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant EXT_SLOT = 0x73d0001025a09922cc035ecb5964a5e707f8610a2012e1cf98cf6a27908dfb00;

    /// @notice Published identity of the KMS.
    KmsInfo public kmsInfo;

    /// @notice App id of the gateway that guests of this domain trust.
    /// @custom:oz-renamed-from tproxyAppId
    string public gatewayAppId;

    /// @notice Apps that may ask for keys.
    mapping(address appId => bool) public registeredApps;

    /// @notice Aggregated measurements that a KMS may have.
    mapping(bytes32 mrAggregated => bool) public kmsAllowedAggregatedMrs;

    /// @notice Devices that a KMS may run on.
    mapping(bytes32 deviceId => bool) public kmsAllowedDeviceIds;

    /// @notice OS images that a KMS or an app may run, if they have not expired.
    mapping(bytes32 osImageHash => bool) public allowedOsImages;

    /// @notice Implementation behind the app proxies that the factory creates.
    address public appImplementation;

    /// @dev Slots 10 to 59.
    uint256[50] private __gap;

    /// @notice Grows with every change that can alter a decision of this contract.
    /// @return number of changes so far
    function policyEpoch() external view returns (uint64) {
        return _ext().epoch;
    }

    function _bumpEpoch() internal override {
        unchecked {
            ++_ext().epoch;
        }
    }

    function _guardians() internal view override returns (mapping(address account => bool) storage) {
        return _ext().guardians;
    }

    function _ext() internal pure returns (DstackKmsExt storage ext) {
        assembly ("memory-safe") {
            ext.slot := EXT_SLOT
        }
    }
}
