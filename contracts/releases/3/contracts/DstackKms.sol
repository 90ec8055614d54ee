// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {IERC1822Proxiable} from "@openzeppelin/contracts/interfaces/draft-IERC1822.sol";
import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";
import {BoundedAppAuth} from "./BoundedAppAuth.sol";
import {IAppAuth} from "./IAppAuth.sol";
import {PolicyGovernance} from "./PolicyGovernance.sol";

/// @title Registry and policy of one KMS domain
/// @notice Holds what every key release depends on: the OS images that may run, the measurements and devices
/// of the KMS itself, the registered apps, and the public identity of the KMS. Also deploys app contracts.
/// @dev Storage: slots 0 to 59 are shared with the 0.6 line and its successors, so that a proxy can move
/// between implementations in both directions. New state lies in the ERC-7201 namespace, append only.
contract DstackKms is PolicyGovernance, IAppAuth {
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

    /// @notice An app may ask for keys.
    /// @param appId its contract
    event AppRegistered(address appId);

    /// @notice The factory created an app.
    /// @param appId its proxy
    /// @param deployer who called the factory, which need not be the owner
    event AppDeployedViaFactory(address indexed appId, address indexed deployer);

    /// @notice Future app proxies have another implementation.
    /// @param implementation its address
    event AppImplementationSet(address implementation);

    /// @notice Guests trust another gateway.
    /// @param gatewayAppId its app id
    event GatewayAppIdSet(string gatewayAppId);

    /// @notice The identity of the KMS was published.
    /// @param k256Pubkey its root key
    event KmsInfoSet(bytes k256Pubkey);

    /// @notice A KMS measurement was allowed.
    /// @param mrAggregated which
    event KmsAggregatedMrAdded(bytes32 mrAggregated);

    /// @notice A KMS measurement was taken away.
    /// @param mrAggregated which
    event KmsAggregatedMrRemoved(bytes32 mrAggregated);

    /// @notice A device was allowed for the KMS.
    /// @param deviceId which
    event KmsDeviceAdded(bytes32 deviceId);

    /// @notice A device was taken away from the KMS.
    /// @param deviceId which
    event KmsDeviceRemoved(bytes32 deviceId);

    /// @notice An OS image was allowed.
    /// @param osImageHash which
    event OsImageHashAdded(bytes32 osImageHash);

    /// @notice An OS image was taken away.
    /// @param osImageHash which
    event OsImageHashRemoved(bytes32 osImageHash);

    /// @notice An OS image got an end, or lost it.
    /// @param osImageHash which
    /// @param notAfter last second at which it may run, unix time; 0 for no end
    event OsImageExpirySet(bytes32 indexed osImageHash, uint64 notAfter);

    /// @notice An app got an end, or lost it.
    /// @param appId which
    /// @param notAfter last second at which it may have keys, unix time; 0 for no end
    event AppPolicyExpirySet(address indexed appId, uint64 notAfter);

    /// @notice An app was blocked, whatever its own policy says.
    /// @param appId which
    /// @param actor who blocked it
    event AppBlocked(address indexed appId, address indexed actor);

    /// @notice An app is not blocked any more.
    /// @param appId which
    /// @param actor who unblocked it
    event AppUnblocked(address indexed appId, address indexed actor);

    /// @notice Platforms with this advisory are denied.
    /// @param advisoryHash keccak256 of the id
    /// @param advisoryId for example INTEL-SA-00837
    event AdvisoryDenied(bytes32 indexed advisoryHash, string advisoryId);

    /// @notice Platforms with this advisory are not denied any more.
    /// @param advisoryHash keccak256 of the id
    /// @param advisoryId for example INTEL-SA-00837
    event AdvisoryAllowed(bytes32 indexed advisoryHash, string advisoryId);

    /// @notice Nothing is allowed until `unpause`.
    /// @param account who paused
    event Paused(address account);

    /// @notice The policy decides again.
    /// @param account who ended the pause
    event Unpaused(address account);

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

    /// @notice Publish the identity of the KMS; replaces all four parts.
    /// @param info the new parts
    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
        emit KmsInfoSet(info.k256Pubkey);
        _changed(keccak256("kms-info"), keccak256(abi.encode(info)), true);
    }

    /// @notice Replace the published evidence.
    /// @param quote the new evidence
    function setKmsQuote(bytes calldata quote) external onlyOwner {
        kmsInfo.quote = quote;
        _changed(keccak256("kms-quote"), keccak256(quote), true);
    }

    /// @notice Replace the published event log.
    /// @param eventlog the new event log
    function setKmsEventlog(bytes calldata eventlog) external onlyOwner {
        kmsInfo.eventlog = eventlog;
        _changed(keccak256("kms-eventlog"), keccak256(eventlog), true);
    }

    /// @notice Name the gateway that guests trust.
    /// @param appId its app id
    function setGatewayAppId(string calldata appId) external onlyOwner {
        gatewayAppId = appId;
        emit GatewayAppIdSet(appId);
        _changed(keccak256("gateway-app-id"), keccak256(bytes(appId)), true);
    }

    /// @notice Choose the implementation of future app proxies.
    /// @param appCode address of its code, which must be a UUPS implementation
    function setAppImplementation(address appCode) external onlyOwner {
        _setAppImplementation(appCode);
    }

    /// @notice Allow a KMS measurement.
    /// @param mrAggregated which
    function addKmsAggregatedMr(bytes32 mrAggregated) external onlyOwner {
        _requireMeasurement(mrAggregated);
        kmsAllowedAggregatedMrs[mrAggregated] = true;
        emit KmsAggregatedMrAdded(mrAggregated);
        _changed(keccak256("kms-aggregated-mr"), mrAggregated, true);
    }

    /// @notice Stop allowing a KMS measurement.
    /// @param mrAggregated which
    function removeKmsAggregatedMr(bytes32 mrAggregated) external onlyOwnerOrGuardian {
        kmsAllowedAggregatedMrs[mrAggregated] = false;
        emit KmsAggregatedMrRemoved(mrAggregated);
        _changed(keccak256("kms-aggregated-mr"), mrAggregated, false);
    }

    /// @notice Allow a device for the KMS.
    /// @param deviceId which
    function addKmsDevice(bytes32 deviceId) external onlyOwner {
        _requireMeasurement(deviceId);
        kmsAllowedDeviceIds[deviceId] = true;
        emit KmsDeviceAdded(deviceId);
        _changed(keccak256("kms-device"), deviceId, true);
    }

    /// @notice Stop allowing a device for the KMS.
    /// @param deviceId which
    function removeKmsDevice(bytes32 deviceId) external onlyOwnerOrGuardian {
        kmsAllowedDeviceIds[deviceId] = false;
        emit KmsDeviceRemoved(deviceId);
        _changed(keccak256("kms-device"), deviceId, false);
    }

    /// @notice Allow an OS image; takes away an end that it had.
    /// @param osImageHash which
    function addOsImageHash(bytes32 osImageHash) external onlyOwner {
        _addOsImage(osImageHash, 0);
    }

    /// @notice The same as `addOsImageHash`.
    /// @param measurement an OS image hash
    function addMeasurement(bytes32 measurement) external onlyOwner {
        _addOsImage(measurement, 0);
    }

    /// @notice Allow an OS image until a time.
    /// @param osImageHash which
    /// @param notAfter last second at which it may run, unix time; 0 for no end
    function addOsImageHashUntil(bytes32 osImageHash, uint64 notAfter) external onlyOwner {
        _addOsImage(osImageHash, notAfter);
    }

    /// @notice Stop allowing an OS image.
    /// @param osImageHash which
    function removeOsImageHash(bytes32 osImageHash) external onlyOwnerOrGuardian {
        _removeOsImage(osImageHash);
    }

    /// @notice The same as `removeOsImageHash`.
    /// @param measurement an OS image hash
    function removeMeasurement(bytes32 measurement) external onlyOwnerOrGuardian {
        _removeOsImage(measurement);
    }

    /// @notice Give an app an end. Registration is open to everybody, so this and `blockApp` are the registry
    /// owner's levers against one app.
    /// @param appId which
    /// @param notAfter last second at which it may have keys, unix time; 0 for no end
    function setAppPolicyExpiry(address appId, uint64 notAfter) external onlyOwner {
        _ext().appNotAfter[appId] = notAfter;
        emit AppPolicyExpirySet(appId, notAfter);
        _changed(keccak256("app-expiry"), _word(appId), notAfter != 0);
    }

    /// @notice Deny an app, whatever its own policy says.
    /// @param appId which
    function blockApp(address appId) external onlyOwnerOrGuardian {
        _ext().blocked[appId] = true;
        emit AppBlocked(appId, msg.sender);
        _changed(keccak256("blocked-app"), _word(appId), true);
    }

    /// @notice Leave an app to its own policy again.
    /// @param appId which
    function unblockApp(address appId) external onlyOwner {
        _ext().blocked[appId] = false;
        emit AppUnblocked(appId, msg.sender);
        _changed(keccak256("blocked-app"), _word(appId), false);
    }

    /// @notice Deny platforms to which an advisory applies.
    /// @param advisoryId for example INTEL-SA-00837; compared byte by byte
    function denyAdvisory(string calldata advisoryId) external onlyOwnerOrGuardian {
        bytes32 hash = keccak256(bytes(advisoryId));
        _ext().deniedAdvisories[hash] = true;
        emit AdvisoryDenied(hash, advisoryId);
        _changed(keccak256("denied-advisory"), hash, true);
    }

    /// @notice Do not deny platforms for this advisory any more.
    /// @param advisoryId for example INTEL-SA-00837
    function allowAdvisory(string calldata advisoryId) external onlyOwner {
        bytes32 hash = keccak256(bytes(advisoryId));
        _ext().deniedAdvisories[hash] = false;
        emit AdvisoryAllowed(hash, advisoryId);
        _changed(keccak256("denied-advisory"), hash, false);
    }

    /// @notice Allow nothing, to nobody, until `unpause`.
    function pause() external onlyOwnerOrGuardian {
        _ext().paused = true;
        emit Paused(msg.sender);
        _changed(keccak256("paused"), 0, true);
    }

    /// @notice End the pause.
    function unpause() external onlyOwner {
        _ext().paused = false;
        emit Unpaused(msg.sender);
        _changed(keccak256("paused"), 0, false);
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

    /// @notice Is this an allowed OS image or an allowed KMS measurement? For people; decisions are
    /// `isKmsAllowed` and `isAppAllowed`.
    /// @param measurement which
    /// @return true if it is, and an image has not expired
    function isAuthorized(bytes32 measurement) external view returns (bool) {
        return kmsAllowedAggregatedMrs[measurement]
            || (allowedOsImages[measurement] && !_isExpired(_ext().osNotAfter[measurement]));
    }

    /// @notice Is everything denied?
    /// @return true until `unpause`
    function paused() external view returns (bool) {
        return _ext().paused;
    }

    /// @notice Is this app denied, whatever its own policy says?
    /// @param appId which
    /// @return true if it is
    function blockedApps(address appId) external view returns (bool) {
        return _ext().blocked[appId];
    }

    /// @notice End of an OS image.
    /// @param osImageHash which
    /// @return last second at which it may run, unix time; 0 for no end
    function osImageNotAfter(bytes32 osImageHash) external view returns (uint64) {
        return _ext().osNotAfter[osImageHash];
    }

    /// @notice End of an app.
    /// @param appId which
    /// @return last second at which it may have keys, unix time; 0 for no end
    function appNotAfter(address appId) external view returns (uint64) {
        return _ext().appNotAfter[appId];
    }

    /// @notice Are platforms with this advisory denied?
    /// @param advisoryHash keccak256 of the id
    /// @return true if they are
    function advisoryDenied(bytes32 advisoryHash) external view returns (bool) {
        return _ext().deniedAdvisories[advisoryHash];
    }

    /// @notice Grows with every change that can alter a decision of this contract.
    /// @return number of changes so far
    function policyEpoch() external view returns (uint64) {
        return _ext().epoch;
    }

    /// @notice Let an app ask for keys. Anyone may register any app: its own policy still decides.
    /// @param appId its contract
    function registerApp(address appId) public {
        require(appId != address(0), "Invalid app ID");
        bool isNew = !registeredApps[appId];
        registeredApps[appId] = true;
        emit AppRegistered(appId);
        // Who registers again what is registered must not make others forget what they know.
        if (isNew) _changed(keccak256("registered-app"), _word(appId), true);
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

    function _bumpEpoch() internal override {
        unchecked {
            ++_ext().epoch;
        }
    }

    function _guardians() internal view override returns (mapping(address account => bool) storage) {
        return _ext().guardians;
    }

    /// @dev What is checked first for everybody; empty if nothing denies.
    function _commonDenial(AppBootInfo calldata bootInfo) private view returns (string memory) {
        if (_ext().paused) return "KMS contract is paused";
        uint256 count = bootInfo.advisoryIds.length;
        for (uint256 i = 0; i < count; ++i) {
            if (_ext().deniedAdvisories[keccak256(bytes(bootInfo.advisoryIds[i]))]) return "Advisory is denied";
        }
        return "";
    }

    function _imageDenial(bytes32 osImageHash) private view returns (string memory) {
        if (!allowedOsImages[osImageHash]) return "OS image is not allowed";
        if (_isExpired(_ext().osNotAfter[osImageHash])) return "OS image authorization expired";
        return "";
    }

    function _addOsImage(bytes32 osImageHash, uint64 notAfter) private {
        _requireMeasurement(osImageHash);
        allowedOsImages[osImageHash] = true;
        emit OsImageHashAdded(osImageHash);
        _changed(keccak256("os-image"), osImageHash, true);
        if (_ext().osNotAfter[osImageHash] != notAfter) _setOsImageExpiry(osImageHash, notAfter);
    }

    function _removeOsImage(bytes32 osImageHash) private {
        allowedOsImages[osImageHash] = false;
        emit OsImageHashRemoved(osImageHash);
        _changed(keccak256("os-image"), osImageHash, false);
        if (_ext().osNotAfter[osImageHash] != 0) _setOsImageExpiry(osImageHash, 0);
    }

    function _setOsImageExpiry(bytes32 osImageHash, uint64 notAfter) private {
        _ext().osNotAfter[osImageHash] = notAfter;
        emit OsImageExpirySet(osImageHash, notAfter);
        _changed(keccak256("os-image-expiry"), osImageHash, notAfter != 0);
    }

    /// @dev An address that is no UUPS implementation would make every later app unusable.
    function _setAppImplementation(address appCode) private {
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

    function _ext() private pure returns (DstackKmsExt storage ext) {
        assembly ("memory-safe") {
            ext.slot := EXT_SLOT
        }
    }
}
