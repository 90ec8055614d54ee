// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {DstackApp} from "../contracts/DstackApp.sol";
import {DstackKms} from "../contracts/DstackKms.sol";
import {IAppAuth} from "../contracts/IAppAuth.sol";
import {IAppAuthBasicManagement} from "../contracts/IAppAuthBasicManagement.sol";
import {PolicyGovernance} from "../contracts/PolicyGovernance.sol";
import {Domain} from "./Domain.sol";

/// @dev Says yes to every question of ERC-165, which no honest contract does.
contract SaysYes {
    function make(DstackApp code) external returns (DstackApp) {
        bytes memory init =
            abi.encodeWithSignature("initialize(address,bool,bool,bytes32,bytes32)", msg.sender, false, true, 0, 0);
        return DstackApp(address(new ERC1967Proxy(address(code), init)));
    }

    function supportsInterface(bytes4) external pure returns (bool) {
        return true;
    }
}

contract DstackAppTest is Domain {
    bytes32 private constant NEXT = keccak256("next compose");

    function _with(bytes32 composeHash) private view returns (IAppAuth.AppBootInfo memory info) {
        info = workload();
        info.composeHash = composeHash;
    }

    function testGuardianTakesAwayAndNeverAdds() external {
        vm.startPrank(GUARDIAN);
        app.removeDevice(DEVICE);
        expectApp("Device not allowed");
        app.removeComposeHash(COMPOSE);
        expectApp("Compose hash not allowed");
        vm.stopPrank();
        bytes[] memory calls = new bytes[](11);
        calls[0] = abi.encodeCall(IAppAuthBasicManagement.addComposeHash, (COMPOSE));
        calls[1] = abi.encodeCall(DstackApp.addComposeHashUntil, (COMPOSE, 0));
        calls[2] = abi.encodeCall(DstackApp.replaceComposeHash, (COMPOSE, NEXT, 0));
        calls[3] = abi.encodeCall(IAppAuthBasicManagement.addDevice, (DEVICE));
        calls[4] = abi.encodeCall(DstackApp.setAllowAnyDevice, (true));
        calls[5] = abi.encodeCall(DstackApp.setRequireTcbUpToDate, (false));
        calls[6] = abi.encodeCall(DstackApp.setKms, (address(0)));
        calls[7] = abi.encodeCall(DstackApp.disableUpgrades, ());
        calls[8] = abi.encodeCall(PolicyGovernance.setGuardian, (STRANGER, true));
        calls[9] = abi.encodeCall(PolicyGovernance.setAdmin, (GUARDIAN));
        calls[10] = abi.encodeCall(PolicyGovernance.upgradeTo, (address(appCode)));
        uint64 epoch = app.policyEpoch();
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(GUARDIAN);
            (bool guardians,) = address(app).call(calls[i]);
            vm.prank(STRANGER);
            (bool strangers,) = address(app).call(calls[i]);
            assertTrue(!guardians && !strangers, vm.toString(i));
        }
        assertEq(app.policyEpoch(), epoch);
    }

    function testStrangersCannotTakeAway() external {
        vm.startPrank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(PolicyGovernance.NotOwnerOrGuardian.selector, STRANGER));
        app.removeComposeHash(COMPOSE);
        vm.expectRevert(abi.encodeWithSelector(PolicyGovernance.NotOwnerOrGuardian.selector, STRANGER));
        app.removeDevice(DEVICE);
        vm.stopPrank();
    }

    /// @dev A guardian of the registry is none of the app.
    function testGuardiansAreOfOneContract() external {
        vm.prank(APP_OWNER);
        app.setGuardian(GUARDIAN, false);
        vm.prank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(PolicyGovernance.NotOwnerOrGuardian.selector, GUARDIAN));
        app.removeComposeHash(COMPOSE);
    }

    function testComposeHashUntil() external {
        uint64 end = uint64(block.timestamp) + 10;
        vm.prank(APP_OWNER);
        app.addComposeHashUntil(COMPOSE, end);
        assertEq(app.composeHashNotAfter(COMPOSE), end);
        vm.warp(end);
        expectApp("");
        vm.warp(end + 1);
        expectApp("Compose hash expired");
        assertEq(app.isAuthorized(COMPOSE), false);
        vm.prank(APP_OWNER);
        app.addComposeHash(COMPOSE);
        assertEq(app.composeHashNotAfter(COMPOSE), 0);
        expectApp("");
    }

    function testReplaceAtOnce() external {
        vm.prank(APP_OWNER);
        app.replaceComposeHash(COMPOSE, NEXT, 0);
        expectApp("Compose hash not allowed");
        expectApp(_with(NEXT), "");
    }

    function testReplaceWithGrace() external {
        vm.prank(APP_OWNER);
        app.replaceComposeHash(COMPOSE, NEXT, 60);
        expectApp("");
        expectApp(_with(NEXT), "");
        vm.warp(block.timestamp + 60);
        expectApp("");
        vm.warp(block.timestamp + 1);
        expectApp("Compose hash expired");
        expectApp(_with(NEXT), "");
    }

    function testReplaceNeverLengthensTheLife() external {
        uint64 end = uint64(block.timestamp) + 10;
        vm.startPrank(APP_OWNER);
        app.addComposeHashUntil(COMPOSE, end);
        app.replaceComposeHash(COMPOSE, NEXT, 3600);
        assertEq(app.composeHashNotAfter(COMPOSE), end);
        vm.warp(end + 1);
        app.replaceComposeHash(COMPOSE, keccak256("third"), 3600);
        vm.stopPrank();
        expectApp("Compose hash expired");
    }

    function testReplaceRefusesMistakes() external {
        vm.startPrank(APP_OWNER);
        vm.expectRevert(abi.encodeWithSelector(DstackApp.ComposeHashNotAllowed.selector, NEXT));
        app.replaceComposeHash(NEXT, keccak256("third"), 0);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        app.replaceComposeHash(COMPOSE, COMPOSE, 0);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        app.replaceComposeHash(COMPOSE, 0, 0);
        vm.expectRevert();
        app.replaceComposeHash(COMPOSE, NEXT, type(uint64).max);
        vm.stopPrank();
        expectApp("");
    }

    function testZeroIsNoMeasurement() external {
        vm.startPrank(APP_OWNER);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        app.addComposeHash(0);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        app.addDevice(0);
        vm.stopPrank();
    }

    function testTcbComesFirst() external {
        IAppAuth.AppBootInfo memory info = _with(NEXT);
        info.tcbStatus = "OutOfDate";
        expectApp(info, "Compose hash not allowed");
        vm.prank(APP_OWNER);
        app.setRequireTcbUpToDate(true);
        expectApp(info, "TCB status is not up to date");
        expectApp("");
    }

    function testCheckBootAsksBoth() external {
        (bool isAllowed, string memory reason) = app.checkBoot(workload());
        assertTrue(isAllowed && bytes(reason).length == 0, reason);
        vm.prank(GUARDIAN);
        kms.pause();
        (isAllowed, reason) = app.checkBoot(workload());
        assertEq(isAllowed, false);
        assertEq(reason, "KMS contract is paused");
        (, reason) = app.checkBoot(_with(NEXT));
        assertEq(reason, "Compose hash not allowed");
        vm.prank(APP_OWNER);
        app.setKms(address(0));
        (isAllowed,) = app.checkBoot(workload());
        assertEq(isAllowed, true);
    }

    function testOnlyAFactoryIsTakenForAKms() external {
        assertEq(app.kms(), address(kms));
        bytes memory init =
            abi.encodeWithSignature("initialize(address,bool,bool,bytes32,bytes32)", APP_OWNER, false, true, 0, 0);
        DstackApp byHand = DstackApp(address(new ERC1967Proxy(address(appCode), init)));
        assertEq(byHand.kms(), address(0));
        assertEq(new SaysYes().make(appCode).kms(), address(0));
    }

    function testUpgradesDisabledForEver() external {
        vm.startPrank(APP_OWNER);
        app.upgradeTo(address(new DstackApp()));
        app.disableUpgrades();
        assertEq(app.upgradesDisabled(), true);
        address next = address(new DstackApp());
        vm.expectRevert("Upgrades are permanently disabled");
        app.upgradeTo(next);
        vm.expectRevert("Upgrades are permanently disabled");
        app.upgradeToAndCall(next, "");
        vm.stopPrank();
        expectApp("");
    }

    function testEpochCountsEveryChange() external {
        vm.startPrank(APP_OWNER);
        uint64 epoch = app.policyEpoch();
        app.setAllowAnyDevice(true);
        assertEq(app.policyEpoch(), ++epoch);
        app.setKms(STRANGER);
        assertEq(app.policyEpoch(), ++epoch);
        assertEq(app.kms(), STRANGER);
        app.upgradeTo(address(new DstackApp()));
        assertEq(app.policyEpoch(), ++epoch);
        // Two changes: the hash, and its end.
        app.addComposeHashUntil(NEXT, 1);
        assertEq(app.policyEpoch(), epoch + 2);
        vm.stopPrank();
    }
}
