// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {MulticallUpgradeable} from "@openzeppelin/contracts-upgradeable/utils/MulticallUpgradeable.sol";
import {ERC165Upgradeable} from
    "@openzeppelin/contracts-upgradeable/utils/introspection/ERC165Upgradeable.sol";
import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";
import {IPolicyEpoch} from "./IPolicyEpoch.sol";

/// @title Who may change a policy
/// @notice The owner may change everything. Guardians may only take away, at once: a Timelock that delays its
/// owner's additions does not delay their removals. There is no guardian until the owner names one.
/// @dev Has no linear storage. Epoch and guardians lie in the ERC-7201 namespace of the inheriting contract.
abstract contract PolicyGovernance is
    Ownable2StepUpgradeable,
    UUPSUpgradeable,
    ERC165Upgradeable,
    MulticallUpgradeable,
    IPolicyEpoch
{
    /// @notice A guardian was named or dismissed.
    /// @param guardian the account
    /// @param enabled true if it is a guardian from now on
    event GuardianSet(address indexed guardian, bool enabled);

    /// @notice The policy changed. Emitted beside the specific event, with every new epoch.
    /// @param actor who changed it
    /// @param policy keccak256 of the name of what was changed, for example `os-image`
    /// @param value the entry: a hash, an address padded on the left, keccak256 of longer data, or zero
    /// @param enabled true if it was added or set, false if it was taken away
    event PolicyChanged(address indexed actor, bytes32 indexed policy, bytes32 indexed value, bool enabled);

    /// @notice Only the owner and guardians may take away.
    /// @param account who tried
    error NotOwnerOrGuardian(address account);

    /// @notice A policy without an owner could never be corrected again.
    error RenounceDisabled();

    /// @notice Zero is no measurement: missing data is zero too.
    error InvalidMeasurement();

    modifier onlyOwnerOrGuardian() {
        if (msg.sender != owner() && !_guardians()[msg.sender]) revert NotOwnerOrGuardian(msg.sender);
        _;
    }

    /// @notice Name or dismiss a guardian.
    /// @param guardian the account
    /// @param enabled true to name it
    function setGuardian(address guardian, bool enabled) external onlyOwner {
        _guardians()[guardian] = enabled;
        emit GuardianSet(guardian, enabled);
        _changed(keccak256("guardian"), _word(guardian), enabled);
    }

    /// @notice May this account take entries away?
    /// @param account any account
    /// @return true if the owner named it a guardian
    function isGuardian(address account) external view returns (bool) {
        return _guardians()[account];
    }

    /// @notice Give the contract to another owner in two steps: that account has to call `acceptOwnership`.
    /// @param newOwner the account, or zero to take back an offer
    function startOwnershipTransfer(address newOwner) external {
        super.transferOwnership(newOwner);
    }

    /// @notice Give the contract to another owner at once.
    /// @param newOwner the account; not zero, and not the contract itself, which could never act
    function transferOwnership(address newOwner) public override onlyOwner {
        if (newOwner == address(0) || newOwner == address(this)) revert OwnableInvalidOwner(newOwner);
        _transferOwnership(newOwner);
    }

    /// @notice The same as `transferOwnership`.
    /// @param newAdmin the account
    function setAdmin(address newAdmin) external {
        transferOwnership(newAdmin);
    }

    /// @notice The same as `owner`.
    /// @return the account that may change everything
    function admin() external view returns (address) {
        return owner();
    }

    /// @notice Accept what `startOwnershipTransfer` offered. Does nothing for the present owner, so that a script
    /// which accepts after a transfer in one step works too.
    function acceptOwnership() public override {
        if (msg.sender != owner()) super.acceptOwnership();
    }

    /// @notice Always reverts.
    function renounceOwnership() public virtual override {
        revert RenounceDisabled();
    }

    /// @notice The same as `upgradeToAndCall` without a call.
    /// @param newImplementation address of the new code
    function upgradeTo(address newImplementation) external {
        upgradeToAndCall(newImplementation, "");
    }

    /// @notice The code behind this proxy.
    /// @return address in the ERC-1967 slot; zero when asked of an implementation itself
    function implementation() external view returns (address) {
        return ERC1967Utils.getImplementation();
    }

    /// @notice Version of this contract's code.
    /// @return 3; the 0.6 line has no such function, and its successor says 2
    function version() external pure returns (uint64) {
        return 3;
    }

    /// @notice ERC-165.
    /// @param interfaceId id of an interface
    /// @return true if the contract has it
    function supportsInterface(bytes4 interfaceId) public view virtual override returns (bool) {
        return interfaceId == type(IPolicyEpoch).interfaceId || super.supportsInterface(interfaceId);
    }

    /// @dev Another implementation may decide otherwise, so this counts as a change.
    function _authorizeUpgrade(address newImplementation) internal virtual override onlyOwner {
        _changed(keccak256("implementation-upgrade"), _word(newImplementation), true);
    }

    /// @dev Counts and reports a change.
    function _changed(bytes32 policy, bytes32 value, bool enabled) internal {
        _bumpEpoch();
        emit PolicyChanged(msg.sender, policy, value, enabled);
    }

    function _requireMeasurement(bytes32 value) internal pure {
        if (value == bytes32(0)) revert InvalidMeasurement();
    }

    /// @dev Zero is no expiry, and the last second counts.
    function _isExpired(uint64 notAfter) internal view returns (bool) {
        return notAfter != 0 && block.timestamp > notAfter;
    }

    /// @dev Addresses in `PolicyChanged`.
    function _word(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    function _bumpEpoch() internal virtual;

    function _guardians() internal view virtual returns (mapping(address account => bool) storage);
}
