// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {ERC165Checker} from "@openzeppelin/contracts/utils/introspection/ERC165Checker.sol";
import {BoundedAppAuth} from "./BoundedAppAuth.sol";
import {IAppAuth} from "./IAppAuth.sol";
import {IAppAuthBasicManagement} from "./IAppAuthBasicManagement.sol";
import {PolicyGovernance} from "./PolicyGovernance.sol";

/// @title Policy of one application
/// @notice Says which compose files, on which devices, receive the keys of this app. The address of its proxy
/// is the app id.
/// @dev Storage: slots 0 to 52 are shared with the 0.6 line and its successors, so that a proxy can move
/// between implementations in both directions. Any other state lies in the ERC-7201 namespace, append only.
contract DstackApp is PolicyGovernance, IAppAuth, IAppAuthBasicManagement {
    /// @custom:storage-location erc7201:dstack.storage.DstackAppExt
    struct DstackAppExt {
        uint64 epoch;
        address kms;
        mapping(address account => bool) guardians;
        mapping(bytes32 composeHash => uint64) composeNotAfter;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("dstack.storage.DstackAppExt")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant EXT_SLOT = 0x451ed33d735f5df28dda509c37110ec8f232f1d0ad223da5b44858684af11800;

    /// @notice Compose hashes that may run, if they have not expired.
    mapping(bytes32 composeHash => bool) public allowedComposeHashes;

    bool private _upgradesDisabled;

    /// @notice True if the device list is not consulted.
    bool public allowAnyDevice;

    /// @notice Devices that may run the app.
    mapping(bytes32 deviceId => bool) public allowedDeviceIds;

    /// @notice True if the platform's TCB must be up to date. Platforms without such a status then never pass.
    bool public requireTcbUpToDate;

    /// @dev Slots 4 to 52.
    uint256[49] private __gap;

    /// @notice The device list was switched on or off.
    /// @param allowAny true if any device may run the app
    event AllowAnyDeviceSet(bool allowAny);

    /// @notice The TCB requirement was switched on or off.
    /// @param required true if the TCB must be up to date
    event RequireTcbUpToDateSet(bool required);

    /// @notice The implementation is fixed for ever.
    event UpgradesDisabled();

    /// @notice The app refers to another KMS contract.
    /// @param previousKms before, or zero
    /// @param newKms from now on, or zero
    event KmsSet(address indexed previousKms, address indexed newKms);

    /// @notice A compose hash got an end, or lost it.
    /// @param composeHash which
    /// @param notAfter last second at which it may run, unix time; 0 for no end
    event ComposeHashExpirySet(bytes32 indexed composeHash, uint64 notAfter);

    /// @notice A compose hash took the place of another one.
    /// @param oldHash the one that goes
    /// @param newHash the one that comes
    /// @param oldNotAfter last second at which the old one may run; 0 if it was removed at once
    event ComposeHashReplaced(bytes32 indexed oldHash, bytes32 indexed newHash, uint64 oldNotAfter);

    /// @notice What is to be replaced is not allowed: a typing error would leave the old one in force.
    /// @param composeHash that was given
    error ComposeHashNotAllowed(bytes32 composeHash);

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
        _setUp(initialOwner, disableUpgradesForever, false, anyDevice, initialDeviceId, initialComposeHash);
    }

    /// @notice Set up the proxy of a new app, with a TCB requirement.
    /// @param initialOwner who manages the policy
    /// @param disableUpgradesForever true fixes the implementation from the start
    /// @param requireTcb initial value of `requireTcbUpToDate`
    /// @param anyDevice initial value of `allowAnyDevice`
    /// @param initialDeviceId first device, or zero for none
    /// @param initialComposeHash first compose hash, or zero for none
    function initialize(
        address initialOwner,
        bool disableUpgradesForever,
        bool requireTcb,
        bool anyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) external initializer {
        _setUp(initialOwner, disableUpgradesForever, requireTcb, anyDevice, initialDeviceId, initialComposeHash);
    }

    /// @inheritdoc IAppAuthBasicManagement
    /// @dev Takes away an end that it had.
    function addComposeHash(bytes32 composeHash) external onlyOwner {
        _addComposeHash(composeHash, 0);
    }

    /// @notice Allow a compose hash until a time.
    /// @param composeHash which
    /// @param notAfter last second at which it may run, unix time; 0 for no end
    function addComposeHashUntil(bytes32 composeHash, uint64 notAfter) external onlyOwner {
        _addComposeHash(composeHash, notAfter);
    }

    /// @notice Allow a new compose hash, and let an old one end. Without this an upgrade only adds: the old
    /// version, and with it its weaknesses, could still have the same keys.
    /// @param oldHash must be allowed now; keeps an earlier end that it has
    /// @param newHash allowed from now on, without an end
    /// @param graceSeconds for which the old one may still run; 0 removes it at once
    function replaceComposeHash(bytes32 oldHash, bytes32 newHash, uint64 graceSeconds) external onlyOwner {
        if (!allowedComposeHashes[oldHash]) revert ComposeHashNotAllowed(oldHash);
        if (oldHash == newHash) revert InvalidMeasurement();
        _addComposeHash(newHash, 0);
        uint64 notAfter = 0;
        if (graceSeconds == 0) {
            _removeComposeHash(oldHash);
        } else {
            notAfter = uint64(block.timestamp) + graceSeconds;
            uint64 before = _ext().composeNotAfter[oldHash];
            if (before != 0 && before < notAfter) notAfter = before;
            _setComposeExpiry(oldHash, notAfter);
        }
        emit ComposeHashReplaced(oldHash, newHash, notAfter);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function removeComposeHash(bytes32 composeHash) external onlyOwnerOrGuardian {
        _removeComposeHash(composeHash);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function addDevice(bytes32 deviceId) external onlyOwner {
        _addDevice(deviceId);
    }

    /// @inheritdoc IAppAuthBasicManagement
    function removeDevice(bytes32 deviceId) external onlyOwnerOrGuardian {
        allowedDeviceIds[deviceId] = false;
        emit DeviceRemoved(deviceId);
        _changed(keccak256("device"), deviceId, false);
    }

    /// @notice Choose between the device list and any device.
    /// @param allowAny true for any device
    function setAllowAnyDevice(bool allowAny) external onlyOwner {
        allowAnyDevice = allowAny;
        emit AllowAnyDeviceSet(allowAny);
        _changed(keccak256("allow-any-device"), 0, allowAny);
    }

    /// @notice Choose whether the platform's TCB must be up to date.
    /// @param required true if it must
    function setRequireTcbUpToDate(bool required) external onlyOwner {
        _setRequireTcb(required);
    }

    /// @notice Name the KMS contract that `checkBoot` asks too.
    /// @param newKms its proxy, or zero for none
    function setKms(address newKms) external onlyOwner {
        _setKms(newKms);
    }

    /// @notice Fix the implementation for ever. There is no way back.
    function disableUpgrades() external onlyOwner {
        _upgradesDisabled = true;
        emit UpgradesDisabled();
        _changed(keccak256("upgrades-disabled"), 0, true);
    }

    /// @inheritdoc IAppAuth
    /// @dev `bootInfo.appId` is not compared with this address: one contract may serve several app ids.
    function isAppAllowed(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        return _decide(bootInfo);
    }

    /// @notice May this workload have keys, by this policy and by that of the KMS contract that it refers to?
    /// @param bootInfo the verified facts
    /// @return isAllowed true if both allow it
    /// @return reason why not; empty when allowed
    function checkBoot(AppBootInfo calldata bootInfo)
        external
        view
        returns (bool isAllowed, string memory reason)
    {
        (isAllowed, reason) = _decide(bootInfo);
        address contractOfKms = _ext().kms;
        if (!isAllowed || contractOfKms == address(0)) return (isAllowed, reason);
        bool isAnswer;
        (isAnswer, isAllowed, reason) = BoundedAppAuth.ask(contractOfKms, bootInfo);
        if (!isAnswer) return (false, "KMS authorization call failed");
    }

    /// @notice Is this compose hash allowed now? For people; decisions are `isAppAllowed`.
    /// @param composeHash which
    /// @return true if it is allowed and has not expired
    function isAuthorized(bytes32 composeHash) external view returns (bool) {
        return allowedComposeHashes[composeHash] && !_isExpired(_ext().composeNotAfter[composeHash]);
    }

    /// @notice End of a compose hash.
    /// @param composeHash which
    /// @return last second at which it may run, unix time; 0 for no end
    function composeHashNotAfter(bytes32 composeHash) external view returns (uint64) {
        return _ext().composeNotAfter[composeHash];
    }

    /// @notice The KMS contract that this app refers to.
    /// @return its proxy, or zero
    function kms() external view returns (address) {
        return _ext().kms;
    }

    /// @notice Is the implementation fixed for ever?
    /// @return true if it is
    function upgradesDisabled() external view returns (bool) {
        return _upgradesDisabled;
    }

    /// @notice Grows with every change that can alter a decision of this contract.
    /// @return number of changes so far
    function policyEpoch() external view returns (uint64) {
        return _ext().epoch;
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
        return interfaceId == type(IAppAuth).interfaceId
            || interfaceId == type(IAppAuthBasicManagement).interfaceId || super.supportsInterface(interfaceId);
    }

    /// @dev The owner check comes first: a stranger learns nothing about the flag from the error.
    function _authorizeUpgrade(address newImplementation) internal override {
        super._authorizeUpgrade(newImplementation);
        require(!_upgradesDisabled, "Upgrades are permanently disabled");
    }

    function _bumpEpoch() internal override {
        unchecked {
            ++_ext().epoch;
        }
    }

    function _guardians() internal view override returns (mapping(address account => bool) storage) {
        return _ext().guardians;
    }

    function _setUp(
        address initialOwner,
        bool disableUpgradesForever,
        bool requireTcb,
        bool anyDevice,
        bytes32 initialDeviceId,
        bytes32 initialComposeHash
    ) private {
        require(initialOwner != address(0), "invalid owner address");

        // Without the events of the setters: indexers of the 0.6 line do not expect them here.
        if (disableUpgradesForever) {
            _upgradesDisabled = true;
            _changed(keccak256("upgrades-disabled"), 0, true);
        }
        if (requireTcb) _setRequireTcb(true);
        if (anyDevice) {
            allowAnyDevice = true;
            _changed(keccak256("allow-any-device"), 0, true);
        }
        if (initialDeviceId != bytes32(0)) _addDevice(initialDeviceId);
        if (initialComposeHash != bytes32(0)) _addComposeHash(initialComposeHash, 0);
        // Set up by the factory of a KMS, and by nobody who only says so.
        if (ERC165Checker.supportsInterface(msg.sender, type(IAppAuth).interfaceId)) _setKms(msg.sender);

        // Last, because indexers of the 0.6 line expect OwnershipTransferred after the policy events.
        __Ownable_init(initialOwner);
    }

    function _decide(AppBootInfo calldata bootInfo) private view returns (bool, string memory) {
        if (requireTcbUpToDate && keccak256(bytes(bootInfo.tcbStatus)) != keccak256("UpToDate")) {
            return (false, "TCB status is not up to date");
        }
        if (!allowedComposeHashes[bootInfo.composeHash]) return (false, "Compose hash not allowed");
        if (_isExpired(_ext().composeNotAfter[bootInfo.composeHash])) return (false, "Compose hash expired");
        if (!allowAnyDevice && !allowedDeviceIds[bootInfo.deviceId]) return (false, "Device not allowed");
        return (true, "");
    }

    function _addComposeHash(bytes32 composeHash, uint64 notAfter) private {
        _requireMeasurement(composeHash);
        allowedComposeHashes[composeHash] = true;
        emit ComposeHashAdded(composeHash);
        _changed(keccak256("compose-hash"), composeHash, true);
        if (_ext().composeNotAfter[composeHash] != notAfter) _setComposeExpiry(composeHash, notAfter);
    }

    function _removeComposeHash(bytes32 composeHash) private {
        allowedComposeHashes[composeHash] = false;
        emit ComposeHashRemoved(composeHash);
        _changed(keccak256("compose-hash"), composeHash, false);
        if (_ext().composeNotAfter[composeHash] != 0) _setComposeExpiry(composeHash, 0);
    }

    function _setComposeExpiry(bytes32 composeHash, uint64 notAfter) private {
        _ext().composeNotAfter[composeHash] = notAfter;
        emit ComposeHashExpirySet(composeHash, notAfter);
        _changed(keccak256("compose-hash-expiry"), composeHash, notAfter != 0);
    }

    function _addDevice(bytes32 deviceId) private {
        _requireMeasurement(deviceId);
        allowedDeviceIds[deviceId] = true;
        emit DeviceAdded(deviceId);
        _changed(keccak256("device"), deviceId, true);
    }

    function _setRequireTcb(bool required) private {
        requireTcbUpToDate = required;
        emit RequireTcbUpToDateSet(required);
        _changed(keccak256("require-tcb-up-to-date"), 0, required);
    }

    function _setKms(address newKms) private {
        emit KmsSet(_ext().kms, newKms);
        _ext().kms = newKms;
        _changed(keccak256("kms"), _word(newKms), newKms != address(0));
    }

    function _ext() private pure returns (DstackAppExt storage ext) {
        assembly ("memory-safe") {
            ext.slot := EXT_SLOT
        }
    }
}
