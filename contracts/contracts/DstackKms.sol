// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {BoundedAppAuth} from "./BoundedAppAuth.sol";
import {IAppAuth} from "./IAppAuth.sol";
import {KmsAppFactory} from "./KmsAppFactory.sol";
import {KmsIdentity} from "./KmsIdentity.sol";
import {KmsMeasurements} from "./KmsMeasurements.sol";
import {KmsStops} from "./KmsStops.sol";
import {PolicyGovernance} from "./PolicyGovernance.sol";

/// @title Registry and policy of one KMS domain
/// @notice Holds what every key release depends on: the OS images that may run, the measurements and devices
/// of the KMS itself, the registered apps, and the public identity of the KMS. Also deploys app contracts.
/// @dev Here are the set-up and the two decisions; each topic that they rest on is a contract of its own, and all
/// storage is in KmsStorage.
contract DstackKms is KmsIdentity, KmsMeasurements, KmsStops, KmsAppFactory {
    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor() {
        _disableInitializers();
    }

    /// @notice Set up the proxy of a new KMS domain.
    /// @param initialOwner who manages the registry
    /// @param appCode implementation of app contracts for the factory, or zero to set it later
    function initialize(address initialOwner, address appCode) external initializer {
        __Ownable_init(initialOwner);
        if (appCode != address(0)) _setAppImplementation(appCode);
    }

    /// @notice May a KMS with this evidence hold the root keys?
    /// @param bootInfo the verified facts
    /// @return isAllowed true if it may
    /// @return reason why not; empty when allowed
    function isKmsAllowed(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        reason = _commonDenial(bootInfo);
        if (bytes(reason).length != 0) return (false, reason);
        if (keccak256(bytes(bootInfo.tcbStatus)) != keccak256("UpToDate")) {
            return (false, "TCB status is not up to date");
        }
        reason = _imageDenial(bootInfo.osImageHash);
        if (bytes(reason).length != 0) return (false, reason);
        if (!kmsAllowedAggregatedMrs[bootInfo.mrAggregated]) return (false, "Aggregated MR not allowed");
        if (!kmsAllowedDeviceIds[bootInfo.deviceId]) {
            return (false, "KMS is not allowed to boot on this device");
        }
        return (true, "");
    }

    /// @inheritdoc IAppAuth
    /// @dev The last word is the app contract's; its answer is returned as it is, within bounds.
    function isAppAllowed(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        reason = _commonDenial(bootInfo);
        if (bytes(reason).length != 0) return (false, reason);
        address appId = bootInfo.appId;
        if (!registeredApps[appId]) return (false, "App not registered");
        if (_ext().blocked[appId]) return (false, "App is blocked");
        if (_isExpired(_ext().appNotAfter[appId])) return (false, "App authorization expired");
        reason = _imageDenial(bootInfo.osImageHash);
        if (bytes(reason).length != 0) return (false, reason);
        if (appId.code.length == 0) return (false, "App not deployed or invalid address");
        bool isAnswer;
        (isAnswer, isAllowed, reason) = BoundedAppAuth.ask(appId, bootInfo);
        if (!isAnswer) return (false, "App authorization call failed");
    }

    /// @notice ERC-165.
    /// @param interfaceId id of an interface
    /// @return true if the contract has it
    function supportsInterface(bytes4 interfaceId)
        public
        view
        override(PolicyGovernance, IERC165)
        returns (bool)
    {
        return interfaceId == type(IAppAuth).interfaceId || super.supportsInterface(interfaceId);
    }
}
