// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";
import {DstackTimelock} from "./DstackTimelock.sol";
import {IPolicyDelay} from "./IPolicyDelay.sol";

/// @title A delay that holds whoever the owner is
/// @notice Once a delay is set, whatever could let something run that could not run before must have been public for
/// that long: announced here with `announce`, or scheduled in a DstackTimelock that owned this contract all the while.
/// That goes for additions, for upgrades, for dismissing guardians, and for shortening the delay. Taking away never
/// waits. A stolen owner key therefore changes nothing before others had that long to see it and to stop it.
/// @dev Has no linear storage. There is no delay until the owner sets one.
abstract contract PolicyDelay is Ownable2StepUpgradeable, IPolicyDelay {
    /// @custom:storage-location erc7201:dstack.storage.PolicyDelay
    struct PolicyDelayState {
        uint64 delay;
        /// Since when it has been at least `delay`.
        uint64 since;
        /// The delay before the last raise, and since when it had been at least that. A raise is thus no gap for
        /// readers who demand no more than before.
        uint64 previousDelay;
        uint64 previousSince;
        /// The implementation that this code put in place, or found when the delay was set. Another one means that
        /// other code, which need not have had a delay, was there in between.
        address guarded;
        uint64 ownerSince;
        mapping(bytes32 callHash => uint64) announcedAt;
    }

    /// @dev keccak256(abi.encode(uint256(keccak256("dstack.storage.PolicyDelay")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant DELAY_SLOT = 0xd611bd2baa7e60ab444b119f78bb875b950591ea25ff5a1bf49fdbaacb314d00;

    /// @dev Code hash of DstackTimelock as it is released. A contract with other code may say anything about when its
    /// operations were scheduled.
    bytes32 private constant TIMELOCK_CODE = 0xc589068c17c6de509f76c4aab02fe43942c756b84a4bdd45db4753fda3ba460d;

    /// @dev Longer, a stolen owner key could stop all changes for good.
    uint64 private constant MAX_DELAY = 30 days;

    /// @dev An announcement that nobody used in this time after the delay lapses.
    uint64 private constant USE_WITHIN = 14 days;

    /// @notice The owner may make this call after the delay.
    /// @param callHash keccak256 of the call data
    /// @param call the call data
    event CallAnnounced(bytes32 indexed callHash, bytes call);

    /// @notice The owner may not make this call any more.
    /// @param callHash keccak256 of the call data
    /// @param actor who took the announcement back
    event CallRetracted(bytes32 indexed callHash, address indexed actor);

    /// @notice There is another delay.
    /// @param delay in seconds
    event PolicyDelaySet(uint64 delay);

    /// @notice The call loosens the policy and was not public for long enough, or too long ago.
    /// @param callHash keccak256 of the call data, as `announce` takes it
    /// @param delay seconds for which it has to be public
    error NotAnnounced(bytes32 callHash, uint64 delay);

    /// @notice The delay is longer than any may be.
    /// @param delay that was given
    /// @param longest that may be
    error PolicyDelayTooLong(uint64 delay, uint64 longest);

    /// @dev For what could let something run that could not run before.
    modifier loosens() {
        _checkOwner();
        _requireLead();
        _;
    }

    /// @notice Announce a call, so that it can be made after the delay, once, within 14 days.
    /// @param call data of the call to this contract; in a `multicall`, of each call in it
    /// @return callHash keccak256 of it
    function announce(bytes calldata call) external onlyOwner returns (bytes32 callHash) {
        callHash = keccak256(call);
        _delay().announcedAt[callHash] = uint64(block.timestamp);
        emit CallAnnounced(callHash, call);
    }

    /// @notice Take an announcement back. Guardians may, too.
    /// @param callHash keccak256 of the call data
    function retract(bytes32 callHash) external {
        _checkOwnerOrGuardian();
        delete _delay().announcedAt[callHash];
        emit CallRetracted(callHash, msg.sender);
    }

    /// @notice Set the delay. A longer one holds at once; a shorter one is a loosening and waits for the present one.
    /// @param delay in seconds, at most 30 days; 0 for none
    function setPolicyDelay(uint64 delay) external onlyOwner {
        if (delay > MAX_DELAY) revert PolicyDelayTooLong(delay, MAX_DELAY);
        if (delay < _delay().delay) _requireLead();
        _setPolicyDelay(delay);
    }

    /// @notice When a call was announced.
    /// @param callHash keccak256 of the call data
    /// @return unix time; 0 if it was not, or was made or taken back
    function announcedAt(bytes32 callHash) external view returns (uint64) {
        return _delay().announcedAt[callHash];
    }

    /// @inheritdoc IPolicyDelay
    function policyDelay() external view returns (uint64 delay) {
        return _delay().delay;
    }

    /// @inheritdoc IPolicyDelay
    function policyDelaySince(uint64 secs) external view returns (uint64 since) {
        PolicyDelayState storage state = _delay();
        if (secs == 0 || state.delay < secs || state.guarded != ERC1967Utils.getImplementation()) return 0;
        return state.previousDelay < secs ? state.since : state.previousSince;
    }

    /// @dev Also notes since when there is this owner: what a Timelock scheduled before that was not public here.
    function _transferOwnership(address newOwner) internal virtual override {
        _delay().ownerSince = uint64(block.timestamp);
        super._transferOwnership(newOwner);
    }

    /// @dev The delay holds over an upgrade if the new code has one too.
    function _guard(address newImplementation) internal {
        PolicyDelayState storage state = _delay();
        if (state.delay != 0 && state.guarded == ERC1967Utils.getImplementation()) state.guarded = newImplementation;
    }

    function _setPolicyDelay(uint64 delay) internal {
        PolicyDelayState storage state = _delay();
        address current = ERC1967Utils.getImplementation();
        if (state.guarded != current) {
            // Nothing that other code left behind is believed.
            (state.guarded, state.previousDelay, state.previousSince) = (current, 0, 0);
            (state.delay, state.since) = (delay, uint64(block.timestamp));
            state.ownerSince = uint64(block.timestamp);
        } else if (delay > state.delay) {
            // Raised again before the last raise counts, the one before stays what readers have.
            if (state.previousDelay == 0 || block.timestamp >= state.since + state.delay) {
                (state.previousDelay, state.previousSince) = (state.delay, state.since);
            }
            (state.delay, state.since) = (delay, uint64(block.timestamp));
        } else {
            state.delay = delay;
        }
        emit PolicyDelaySet(delay);
        _changed(keccak256("policy-delay"), bytes32(uint256(delay)), delay != 0);
    }

    /// @dev Reverts unless this call was public for the delay. An announcement serves once.
    function _requireLead() internal {
        PolicyDelayState storage state = _delay();
        uint64 delay = state.delay;
        if (delay == 0) return;
        bytes32 callHash = keccak256(msg.data);
        uint256 time = state.announcedAt[callHash];
        if (time != 0 && block.timestamp >= time + delay && block.timestamp <= time + delay + USE_WITHIN) {
            delete state.announcedAt[callHash];
            return;
        }
        if (msg.sender.codehash == TIMELOCK_CODE) {
            time = DstackTimelock(payable(msg.sender)).runningSince();
            if (time != 0 && time < state.ownerSince) time = state.ownerSince;
            if (time != 0 && block.timestamp >= time + delay) return;
        }
        revert NotAnnounced(callHash, delay);
    }

    function _changed(bytes32 policy, bytes32 value, bool enabled) internal virtual;

    function _checkOwnerOrGuardian() internal view virtual;

    function _delay() private pure returns (PolicyDelayState storage state) {
        assembly ("memory-safe") {
            state.slot := DELAY_SLOT
        }
    }
}
