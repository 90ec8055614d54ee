// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

/// @title Basic management of an app policy
/// @notice Tools detect it by ERC-165 (id 0x8fd37527) and then offer compose hashes and devices for editing.
interface IAppAuthBasicManagement {
    event ComposeHashAdded(bytes32 composeHash);
    event ComposeHashRemoved(bytes32 composeHash);
    event DeviceAdded(bytes32 deviceId);
    event DeviceRemoved(bytes32 deviceId);

    /// @notice Allow a compose hash.
    function addComposeHash(bytes32 composeHash) external;

    /// @notice Stop allowing a compose hash.
    function removeComposeHash(bytes32 composeHash) external;

    /// @notice Allow a device.
    function addDevice(bytes32 deviceId) external;

    /// @notice Stop allowing a device.
    function removeDevice(bytes32 deviceId) external;
}
