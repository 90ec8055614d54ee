// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {DstackKms} from "../contracts/DstackKms.sol";
import {DstackTimelock} from "../contracts/DstackTimelock.sol";
import {Domain} from "./Domain.sol";

/// @dev Notes when the operation that calls it was scheduled.
contract Witness {
    uint64[] public seen;

    function note() external {
        seen.push(DstackTimelock(payable(msg.sender)).runningSince());
    }
}

contract DstackTimelockTest is Domain {
    uint256 private constant DELAY = 1 days;
    uint256 private constant GRACE = 7 days;

    DstackTimelock private _timelock;
    bytes private _call = abi.encodeCall(kms.addOsImageHash, (MR));

    function setUp() public override {
        super.setUp();
        _timelock = _make(GRACE);
        vm.prank(OWNER);
        kms.transferOwnership(address(_timelock));
    }

    function _make(uint256 grace) private returns (DstackTimelock) {
        address[] memory proposers = new address[](1);
        proposers[0] = OWNER;
        return new DstackTimelock(DELAY, proposers, new address[](1), address(0), grace);
    }

    function _schedule(DstackTimelock timelock) private returns (bytes32 id) {
        vm.prank(OWNER);
        timelock.schedule(address(kms), 0, _call, 0, 0, DELAY);
        return timelock.hashOperation(address(kms), 0, _call, 0, 0);
    }

    function _notReady(bytes32 id) private pure returns (bytes memory) {
        return abi.encodeWithSelector(
            TimelockController.TimelockUnexpectedOperationState.selector, id, bytes32(uint256(1 << 2))
        );
    }

    function testInTimeAndNotBefore() external {
        bytes32 id = _schedule(_timelock);
        vm.expectRevert(_notReady(id));
        _timelock.execute(address(kms), 0, _call, 0, 0);
        vm.warp(block.timestamp + DELAY + GRACE);
        assertEq(_timelock.isOperationExpired(id), false);
        _timelock.execute(address(kms), 0, _call, 0, 0);
        assertEq(kms.allowedOsImages(MR), true);
        assertEq(_timelock.isOperationExpired(id), false);
    }

    function testLapses() external {
        bytes32 id = _schedule(_timelock);
        uint256 expiredAt = block.timestamp + DELAY + GRACE;
        vm.warp(expiredAt + 1);
        assertEq(_timelock.isOperationExpired(id), true);
        vm.expectRevert(abi.encodeWithSelector(DstackTimelock.OperationExpired.selector, id, expiredAt));
        _timelock.execute(address(kms), 0, _call, 0, 0);
        // It can be cancelled, and waits its whole delay again.
        vm.prank(OWNER);
        _timelock.cancel(id);
        _schedule(_timelock);
        vm.expectRevert(_notReady(id));
        _timelock.execute(address(kms), 0, _call, 0, 0);
        vm.warp(block.timestamp + DELAY);
        _timelock.execute(address(kms), 0, _call, 0, 0);
    }

    function testBatchesLapse() external {
        address[] memory targets = new address[](1);
        targets[0] = address(kms);
        bytes[] memory calls = new bytes[](1);
        calls[0] = _call;
        vm.prank(OWNER);
        _timelock.scheduleBatch(targets, new uint256[](1), calls, 0, 0, DELAY);
        bytes32 id = _timelock.hashOperationBatch(targets, new uint256[](1), calls, 0, 0);
        uint256 expiredAt = block.timestamp + DELAY + GRACE;
        vm.warp(expiredAt + 1);
        vm.expectRevert(abi.encodeWithSelector(DstackTimelock.OperationExpired.selector, id, expiredAt));
        _timelock.executeBatch(targets, new uint256[](1), calls, 0, 0);
        vm.warp(expiredAt);
        _timelock.executeBatch(targets, new uint256[](1), calls, 0, 0);
        assertEq(kms.allowedOsImages(MR), true);
    }

    function testUnknownOperationsAreTheBaseContracts() external {
        bytes32 id = _timelock.hashOperation(address(kms), 0, _call, 0, 0);
        vm.expectRevert(_notReady(id));
        _timelock.execute(address(kms), 0, _call, 0, 0);
    }

    /// forge-config: default.fuzz.runs = 50
    function testFuzzGrace(uint256 grace, uint32 wait) external {
        DstackTimelock timelock = _make(grace);
        vm.prank(address(_timelock));
        kms.transferOwnership(address(timelock));
        bytes32 id = _schedule(timelock);
        uint256 readyAt = timelock.getTimestamp(id);
        vm.warp(readyAt + wait);
        bool isLate = grace != 0 && wait > grace;
        assertEq(timelock.isOperationExpired(id), isLate);
        if (isLate) vm.expectRevert();
        timelock.execute(address(kms), 0, _call, 0, 0);
        assertEq(kms.allowedOsImages(MR), !isLate);
    }

    /// @dev The reason for guardians: the owner's addition waits, the guardian's removal does not.
    function testGuardianRevokesWhileAnAdditionWaits() external {
        _schedule(_timelock);
        vm.prank(GUARDIAN);
        kms.removeOsImageHash(IMAGE);
        expectApp("OS image is not allowed");
        assertEq(kms.allowedOsImages(MR), false);
    }

    /// @dev An operation that executes an older one in between says its own time before and after.
    function testSaysWhenTheRunningOperationWasScheduled() external {
        Witness witness = new Witness();
        bytes memory note = abi.encodeCall(Witness.note, ());
        uint256 first = block.timestamp;
        vm.prank(OWNER);
        _timelock.schedule(address(witness), 0, note, 0, 0, DELAY);

        address[] memory targets = new address[](3);
        bytes[] memory calls = new bytes[](3);
        (targets[0], targets[1], targets[2]) = (address(witness), address(_timelock), address(witness));
        (calls[0], calls[2]) = (note, note);
        calls[1] = abi.encodeCall(TimelockController.execute, (address(witness), 0, note, 0, 0));
        vm.warp(first + 100);
        vm.prank(OWNER);
        _timelock.scheduleBatch(targets, new uint256[](3), calls, 0, 0, DELAY);
        vm.warp(first + 100 + DELAY);
        _timelock.executeBatch(targets, new uint256[](3), calls, 0, 0);
        assertEq(witness.seen(0), first + 100);
        assertEq(witness.seen(1), first);
        assertEq(witness.seen(2), first + 100);
        assertEq(_timelock.runningSince(), 0);
    }
}
