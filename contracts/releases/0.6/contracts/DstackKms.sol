// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {ERC165Upgradeable} from
    "@openzeppelin/contracts-upgradeable/utils/introspection/ERC165Upgradeable.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {DstackApp} from "./DstackApp.sol";
import {IAppAuth} from "./IAppAuth.sol";

/// @title Registry and policy of one KMS domain
/// @notice Holds what every key release depends on: the OS images that may run, the measurements and devices
/// of the KMS itself, the registered apps, and the public identity of the KMS. Also deploys app contracts.
/// @dev Storage: slots 0 to 59 are shared with the 0.6 line and its successors, so that a proxy can move
/// between implementations in both directions. New state goes to the ERC-7201 namespace
/// `dstack.storage.DstackKmsExt`, never to the linear slots or the gap.
contract DstackKms is OwnableUpgradeable, UUPSUpgradeable, ERC165Upgradeable, IAppAuth {
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

    /// @notice OS images that a KMS or an app may run.
    mapping(bytes32 osImageHash => bool) public allowedOsImages;

    /// @notice Implementation behind the app proxies that the factory creates.
    address public appImplementation;

    /// @dev Slots 10 to 59.
    uint256[50] private __gap;

    event AppRegistered(address appId);
    event AppDeployedViaFactory(address indexed appId, address indexed deployer);
    event AppImplementationSet(address implementation);
    event GatewayAppIdSet(string gatewayAppId);
    event KmsInfoSet(bytes k256Pubkey);
    event KmsAggregatedMrAdded(bytes32 mrAggregated);
    event KmsAggregatedMrRemoved(bytes32 mrAggregated);
    event KmsDeviceAdded(bytes32 deviceId);
    event KmsDeviceRemoved(bytes32 deviceId);
    event OsImageHashAdded(bytes32 osImageHash);
    event OsImageHashRemoved(bytes32 osImageHash);

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor() {
        _disableInitializers();
    }

    /// @notice Set up the proxy of a new KMS domain.
    /// @param initialOwner who manages the registry
    /// @param implementation of app contracts for the factory, or zero to set it later
    function initialize(address initialOwner, address implementation) external initializer {
        __Ownable_init(initialOwner);
        if (implementation != address(0)) {
            appImplementation = implementation;
            emit AppImplementationSet(implementation);
        }
    }

    /// @notice Publish the identity of the KMS; replaces all four parts.
    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
        emit KmsInfoSet(info.k256Pubkey);
    }

    /// @notice Replace the published evidence.
    function setKmsQuote(bytes calldata quote) external onlyOwner {
        kmsInfo.quote = quote;
    }

    /// @notice Replace the published event log.
    function setKmsEventlog(bytes calldata eventlog) external onlyOwner {
        kmsInfo.eventlog = eventlog;
    }

    /// @notice Name the gateway that guests trust.
    function setGatewayAppId(string calldata appId) external onlyOwner {
        gatewayAppId = appId;
        emit GatewayAppIdSet(appId);
    }

    /// @notice Choose the implementation of future app proxies.
    function setAppImplementation(address implementation) external onlyOwner {
        require(implementation != address(0), "Invalid implementation address");
        appImplementation = implementation;
        emit AppImplementationSet(implementation);
    }

    /// @notice Allow a KMS measurement.
    function addKmsAggregatedMr(bytes32 mrAggregated) external onlyOwner {
        kmsAllowedAggregatedMrs[mrAggregated] = true;
        emit KmsAggregatedMrAdded(mrAggregated);
    }

    /// @notice Stop allowing a KMS measurement.
    function removeKmsAggregatedMr(bytes32 mrAggregated) external onlyOwner {
        kmsAllowedAggregatedMrs[mrAggregated] = false;
        emit KmsAggregatedMrRemoved(mrAggregated);
    }

    /// @notice Allow a device for the KMS.
    function addKmsDevice(bytes32 deviceId) external onlyOwner {
        kmsAllowedDeviceIds[deviceId] = true;
        emit KmsDeviceAdded(deviceId);
    }

    /// @notice Stop allowing a device for the KMS.
    function removeKmsDevice(bytes32 deviceId) external onlyOwner {
        kmsAllowedDeviceIds[deviceId] = false;
        emit KmsDeviceRemoved(deviceId);
    }

    /// @notice Allow an OS image.
    function addOsImageHash(bytes32 osImageHash) external onlyOwner {
        allowedOsImages[osImageHash] = true;
        emit OsImageHashAdded(osImageHash);
    }

    /// @notice Stop allowing an OS image.
    function removeOsImageHash(bytes32 osImageHash) external onlyOwner {
        allowedOsImages[osImageHash] = false;
        emit OsImageHashRemoved(osImageHash);
    }

    /// @notice Create the proxy of an app and register it. Anyone may; the policy is the owner's.
    /// @return appId address of the new proxy
    function deployAndRegisterApp(
        address initialOwner,
        bool disableUpgrades,
        bool allowAnyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external returns (address appId) {
        require(appImplementation != address(0), "DstackApp implementation not set");
        require(initialOwner != address(0), "Invalid owner address");

        bytes memory setUp = abi.encodeCall(
            DstackApp.initialize,
            (initialOwner, disableUpgrades, allowAnyDevice, initialDeviceId, initialComposeHash)
        );
        appId = address(new ERC1967Proxy(appImplementation, setUp));
        registerApp(appId);
        emit AppDeployedViaFactory(appId, msg.sender);
    }

    /// @notice May a KMS with this evidence hold the root keys?
    function isKmsAllowed(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        if (keccak256(bytes(bootInfo.tcbStatus)) != keccak256("UpToDate")) {
            return (false, "TCB status is not up to date");
        }
        if (!allowedOsImages[bootInfo.osImageHash]) return (false, "OS image is not allowed");
        if (!kmsAllowedAggregatedMrs[bootInfo.mrAggregated]) return (false, "Aggregated MR not allowed");
        if (!kmsAllowedDeviceIds[bootInfo.deviceId]) {
            return (false, "KMS is not allowed to boot on this device");
        }
        return (true, "");
    }

    /// @inheritdoc IAppAuth
    /// @dev The last word is the app contract's; its answer is returned as it is, and its revert propagates.
    function isAppAllowed(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        if (!registeredApps[bootInfo.appId]) return (false, "App not registered");
        if (!allowedOsImages[bootInfo.osImageHash]) return (false, "OS image is not allowed");
        if (bootInfo.appId.code.length == 0) return (false, "App not deployed or invalid address");
        return IAppAuth(bootInfo.appId).isAppAllowed(bootInfo);
    }

    /// @notice Let an app ask for keys. Anyone may register any app: its own policy still decides.
    function registerApp(address appId) public {
        require(appId != address(0), "Invalid app ID");
        registeredApps[appId] = true;
        emit AppRegistered(appId);
    }

    /// @notice ERC-165.
    function supportsInterface(bytes4 interfaceId)
        public
        view
        override(ERC165Upgradeable, IERC165)
        returns (bool)
    {
        return interfaceId == type(IAppAuth).interfaceId || super.supportsInterface(interfaceId);
    }

    function _authorizeUpgrade(address) internal override onlyOwner {}
}
