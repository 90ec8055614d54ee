// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

/// @title Basic management of an app policy
/// @notice Tools detect it by ERC-165 (id 0x8fd37527) and then offer compose hashes and devices for editing.
interface IAppAuthBasicManagement {
    /// @notice A compose hash was allowed.
    /// @param composeHash which
    event ComposeHashAdded(bytes32 composeHash);

    /// @notice A compose hash was taken away.
    /// @param composeHash which
    event ComposeHashRemoved(bytes32 composeHash);

    /// @notice A device was allowed.
    /// @param deviceId which
    event DeviceAdded(bytes32 deviceId);

    /// @notice A device was taken away.
    /// @param deviceId which
    event DeviceRemoved(bytes32 deviceId);

    /// @notice Allow a compose hash.
    /// @param composeHash which
    function addComposeHash(bytes32 composeHash) external;

    /// @notice Stop allowing a compose hash.
    /// @param composeHash which
    function removeComposeHash(bytes32 composeHash) external;

    /// @notice Allow a device.
    /// @param deviceId which
    function addDevice(bytes32 deviceId) external;

    /// @notice Stop allowing a device.
    /// @param deviceId which
    function removeDevice(bytes32 deviceId) external;
}
