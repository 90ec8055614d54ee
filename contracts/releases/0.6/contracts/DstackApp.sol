// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {ERC165Upgradeable} from
    "@openzeppelin/contracts-upgradeable/utils/introspection/ERC165Upgradeable.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IAppAuth} from "./IAppAuth.sol";
import {IAppAuthBasicManagement} from "./IAppAuthBasicManagement.sol";

/// @title Policy of one application
/// @notice Says which compose files, on which devices, receive the keys of this app. The address of its proxy
/// is the app id.
/// @dev Storage: slots 0 to 52 are shared with the 0.6 line and its successors, so that a proxy can move
/// between implementations in both directions. Slot 3 belongs to `requireTcbUpToDate` of the successors; any
/// other new state goes to the ERC-7201 namespace `dstack.storage.DstackAppExt`, never here.
contract DstackApp is
    OwnableUpgradeable,
    UUPSUpgradeable,
    ERC165Upgradeable,
    IAppAuth,
    IAppAuthBasicManagement
{
    /// @notice Compose hashes that may run.
    mapping(bytes32 composeHash => bool) public allowedComposeHashes;

    bool private _upgradesDisabled;

    /// @notice True if the device list is not consulted.
    bool public allowAnyDevice;

    /// @notice Devices that may run the app.
    mapping(bytes32 deviceId => bool) public allowedDeviceIds;

    /// @dev Slots 3 to 52.
    uint256[50] private __gap;

    event AllowAnyDeviceSet(bool allowAny);
    event UpgradesDisabled();

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor() {
        _disableInitializers();
    }

    /// @notice Set up the proxy of a new app.
    /// @param initialOwner who manages the policy
    /// @param disableUpgradesForever true fixes the implementation from the start
    /// @param anyDevice initial value of `allowAnyDevice`
    /// @param initialDeviceId first device, or zero for none
    /// @param initialComposeHash first compose hash, or zero for none
    function initialize(
        address initialOwner,
        bool disableUpgradesForever,
        bool anyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external initializer {
        require(initialOwner != address(0), "invalid owner address");

        _upgradesDisabled = disableUpgradesForever;
        allowAnyDevice = anyDevice;
        if (initialDeviceId != bytes32(0)) _addDevice(initialDeviceId);
        if (initialComposeHash != bytes32(0)) _addComposeHash(initialComposeHash);

        // Last, because indexers of the 0.6 line expect OwnershipTransferred after the policy events.
        __Ownable_init(initialOwner);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function addComposeHash(bytes32 composeHash) external onlyOwner {
        _addComposeHash(composeHash);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function removeComposeHash(bytes32 composeHash) external onlyOwner {
        allowedComposeHashes[composeHash] = false;
        emit ComposeHashRemoved(composeHash);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function addDevice(bytes32 deviceId) external onlyOwner {
        _addDevice(deviceId);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function removeDevice(bytes32 deviceId) external onlyOwner {
        allowedDeviceIds[deviceId] = false;
        emit DeviceRemoved(deviceId);
    }

    /// @notice Choose between the device list and any device.
    function setAllowAnyDevice(bool allowAny) external onlyOwner {
        allowAnyDevice = allowAny;
        emit AllowAnyDeviceSet(allowAny);
    }

    /// @notice Fix the implementation for ever. There is no way back.
    function disableUpgrades() external onlyOwner {
        _upgradesDisabled = true;
        emit UpgradesDisabled();
    }

    /// @inheritdoc IAppAuth
    /// @dev `bootInfo.appId` is not compared with this address: one contract may serve several app ids.
    function isAppAllowed(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        if (!allowedComposeHashes[bootInfo.composeHash]) return (false, "Compose hash not allowed");
        if (!allowAnyDevice && !allowedDeviceIds[bootInfo.deviceId]) return (false, "Device not allowed");
        return (true, "");
    }

    /// @notice ERC-165.
    function supportsInterface(bytes4 interfaceId)
        public
        view
        override(ERC165Upgradeable, IERC165)
        returns (bool)
    {
        return interfaceId == type(IAppAuth).interfaceId
            || interfaceId == type(IAppAuthBasicManagement).interfaceId || super.supportsInterface(interfaceId);
    }

    /// @dev The owner check comes first: a stranger learns nothing about the flag from the error.
    function _authorizeUpgrade(address) internal view override onlyOwner {
        require(!_upgradesDisabled, "Upgrades are permanently disabled");
    }

    function _addComposeHash(bytes32 composeHash) private {
        allowedComposeHashes[composeHash] = true;
        emit ComposeHashAdded(composeHash);
    }

    function _addDevice(bytes32 deviceId) private {
        allowedDeviceIds[deviceId] = true;
        emit DeviceAdded(deviceId);
    }
}
