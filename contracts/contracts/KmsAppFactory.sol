// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";
import {IERC1822Proxiable} from "@openzeppelin/contracts/interfaces/draft-IERC1822.sol";
import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";
import {KmsApps} from "./KmsApps.sol";

/// @title Factory of app contracts
/// @notice Creates the proxy of an app, whose address is the app id, and registers it.
abstract contract KmsAppFactory is KmsApps {
    /// @notice The factory created an app.
    /// @param appId its proxy
    /// @param deployer who called the factory, which need not be the owner
    event AppDeployedViaFactory(address indexed appId, address indexed deployer);

    /// @notice Future app proxies have another implementation.
    /// @param implementation its address
    event AppImplementationSet(address implementation);

    /// @notice Choose the implementation of future app proxies.
    /// @param appCode address of its code, which must be a UUPS implementation
    function setAppImplementation(address appCode) external loosens {
        _setAppImplementation(appCode);
    }

    /// @notice Create the proxy of an app and register it. Anyone may; the policy is the owner's.
    /// @param initialOwner who manages the app's policy
    /// @param disableUpgrades true fixes the app's implementation for ever
    /// @param allowAnyDevice true if the app's device list is not consulted
    /// @param initialDeviceId first device, or zero for none
    /// @param initialComposeHash first compose hash, or zero for none
    /// @return appId address of the new proxy
    function deployAndRegisterApp(
        address initialOwner,
        bool disableUpgrades,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external returns (address appId) {
        return _deployApp(
            _appSetUp(initialOwner, disableUpgrades, false, allowAnyDevice, initialDeviceId, initialComposeHash)
        );
    }

    /// @notice Create the proxy of an app with a TCB requirement, and register it.
    /// @param initialOwner who manages the app's policy
    /// @param disableUpgrades true fixes the app's implementation for ever
    /// @param requireTcbUpToDate true if the platform's TCB must be up to date
    /// @param allowAnyDevice true if the app's device list is not consulted
    /// @param initialDeviceId first device, or zero for none
    /// @param initialComposeHash first compose hash, or zero for none
    /// @return appId address of the new proxy
    function deployAndRegisterApp(
        address initialOwner,
        bool disableUpgrades,
        bool requireTcbUpToDate,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external returns (address appId) {
        return _deployApp(
            _appSetUp(
                initialOwner, disableUpgrades, requireTcbUpToDate, allowAnyDevice, initialDeviceId, initialComposeHash
            )
        );
    }

    /// @notice Create the proxy of an app at an address that is known before, and register it. The address
    /// depends on the caller and on all arguments, so nobody else can take it.
    /// @param salt any value; another one gives another address
    /// @param initialOwner who manages the app's policy
    /// @param disableUpgrades true fixes the app's implementation for ever
    /// @param requireTcbUpToDate true if the platform's TCB must be up to date
    /// @param allowAnyDevice true if the app's device list is not consulted
    /// @param initialDeviceId first device, or zero for none
    /// @param initialComposeHash first compose hash, or zero for none
    /// @return appId address of the new proxy
    function deployAndRegisterAppDeterministic(
        bytes32 salt,
        address initialOwner,
        bool disableUpgrades,
        bool requireTcbUpToDate,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external returns (address appId) {
        bytes memory setUp = _appSetUp(
            initialOwner, disableUpgrades, requireTcbUpToDate, allowAnyDevice, initialDeviceId, initialComposeHash
        );
        appId = address(new ERC1967Proxy{salt: _saltOf(msg.sender, salt)}(appImplementation, setUp));
        _registerDeployed(appId);
    }

    /// @notice Address that `deployAndRegisterAppDeterministic` would give, under the present app implementation.
    /// @param deployer who would call it
    /// @param salt as there
    /// @param initialOwner as there
    /// @param disableUpgrades as there
    /// @param requireTcbUpToDate as there
    /// @param allowAnyDevice as there
    /// @param initialDeviceId as there
    /// @param initialComposeHash as there
    /// @return appId the address
    function predictAppAddress(
        address deployer,
        bytes32 salt,
        address initialOwner,
        bool disableUpgrades,
        bool requireTcbUpToDate,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external view returns (address appId) {
        bytes memory setUp = _appSetUp(
            initialOwner, disableUpgrades, requireTcbUpToDate, allowAnyDevice, initialDeviceId, initialComposeHash
        );
        bytes memory creation =
            abi.encodePacked(type(ERC1967Proxy).creationCode, abi.encode(appImplementation, setUp));
        return Create2.computeAddress(_saltOf(deployer, salt), keccak256(creation));
    }

    /// @dev An address that is no UUPS implementation would make every later app unusable.
    function _setAppImplementation(address appCode) internal {
        require(appCode != address(0), "Invalid implementation address");
        if (appCode.code.length == 0) revert ERC1967Utils.ERC1967InvalidImplementation(appCode);
        try IERC1822Proxiable(appCode).proxiableUUID() returns (bytes32 slot) {
            if (slot != ERC1967Utils.IMPLEMENTATION_SLOT) revert UUPSUnsupportedProxiableUUID(slot);
        } catch {
            revert ERC1967Utils.ERC1967InvalidImplementation(appCode);
        }
        appImplementation = appCode;
        emit AppImplementationSet(appCode);
        _changed(keccak256("app-implementation"), _word(appCode), true);
    }

    /// @dev Without a TCB requirement the initializer of the 0.6 line is called, so that its code works too.
    function _appSetUp(
        address initialOwner,
        bool disableUpgrades,
        bool requireTcbUpToDate,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) private view returns (bytes memory) {
        require(appImplementation != address(0), "DstackApp implementation not set");
        require(initialOwner != address(0), "Invalid owner address");
        if (!requireTcbUpToDate) {
            return abi.encodeWithSignature(
                "initialize(address,bool,bool,bytes32,bytes32)",
                initialOwner,
                disableUpgrades,
                allowAnyDevice,
                initialDeviceId,
                initialComposeHash
            );
        }
        return abi.encodeWithSignature(
            "initialize(address,bool,bool,bool,bytes32,bytes32)",
            initialOwner,
            disableUpgrades,
            requireTcbUpToDate,
            allowAnyDevice,
            initialDeviceId,
            initialComposeHash
        );
    }

    function _deployApp(bytes memory setUp) private returns (address appId) {
        appId = address(new ERC1967Proxy(appImplementation, setUp));
        _registerDeployed(appId);
    }

    function _registerDeployed(address appId) private {
        registerApp(appId);
        emit AppDeployedViaFactory(appId, msg.sender);
    }

    function _saltOf(address deployer, bytes32 salt) private pure returns (bytes32) {
        return keccak256(abi.encode(deployer, salt));
    }
}
