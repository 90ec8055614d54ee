// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {ERC1967Utils} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Utils.sol";
import {OwnableUpgradeable} from "@openzeppelin/contracts-upgradeable/access/OwnableUpgradeable.sol";
import {DstackApp} from "../contracts/DstackApp.sol";
import {DstackKms} from "../contracts/DstackKms.sol";
import {KmsStorage} from "../contracts/KmsStorage.sol";
import {IAppAuth} from "../contracts/IAppAuth.sol";
import {PolicyGovernance} from "../contracts/PolicyGovernance.sol";
import {Domain} from "./Domain.sol";
import {Vm} from "./TestBase.sol";

contract DstackKmsTest is Domain {
    function testAllowsWhatEverybodyAllows() external view {
        expectApp("");
        expectKms("");
    }

    function testGuardianTakesAwayAtOnce() external {
        vm.prank(GUARDIAN);
        kms.removeOsImageHash(IMAGE);
        expectApp("OS image is not allowed");
        expectKms("OS image is not allowed");
        vm.prank(GUARDIAN);
        kms.removeKmsAggregatedMr(MR);
        vm.prank(GUARDIAN);
        kms.removeKmsDevice(DEVICE);
        assertEq(kms.kmsAllowedAggregatedMrs(MR), false);
        assertEq(kms.kmsAllowedDeviceIds(DEVICE), false);
        vm.prank(OWNER);
        kms.addMeasurement(IMAGE);
        vm.prank(GUARDIAN);
        kms.removeMeasurement(IMAGE);
        expectApp("OS image is not allowed");
    }

    /// @dev Every function that only the owner has, called by a guardian and by a stranger.
    function testOthersCannotAdd() external {
        bytes[] memory calls = new bytes[](23);
        calls[0] = abi.encodeCall(kms.addOsImageHash, (MR));
        calls[1] = abi.encodeCall(kms.addMeasurement, (MR));
        calls[2] = abi.encodeCall(kms.addOsImageHashUntil, (MR, 0));
        calls[3] = abi.encodeCall(kms.addKmsAggregatedMr, (MR));
        calls[4] = abi.encodeCall(kms.addKmsDevice, (MR));
        calls[5] = abi.encodeCall(kms.unpause, ());
        calls[6] = abi.encodeCall(kms.unblockApp, (address(app)));
        calls[7] = abi.encodeCall(kms.allowAdvisory, ("x"));
        calls[8] = abi.encodeCall(kms.setAppPolicyExpiry, (address(app), 0));
        calls[9] = abi.encodeCall(kms.setAppImplementation, (address(appCode)));
        calls[10] = abi.encodeCall(kms.setGatewayAppId, ("x"));
        calls[11] = abi.encodeCall(kms.setKmsInfo, (KmsStorage.KmsInfo("1", "2", "3", "4")));
        calls[12] = abi.encodeCall(kms.setKmsQuote, ("x"));
        calls[13] = abi.encodeCall(kms.setKmsEventlog, ("x"));
        calls[14] = abi.encodeCall(PolicyGovernance.setGuardian, (GUARDIAN, true));
        calls[15] = abi.encodeWithSignature("transferOwnership(address)", GUARDIAN);
        calls[16] = abi.encodeCall(PolicyGovernance.setAdmin, (GUARDIAN));
        calls[17] = abi.encodeCall(PolicyGovernance.startOwnershipTransfer, (GUARDIAN));
        calls[18] = abi.encodeWithSignature("acceptOwnership()");
        calls[19] = abi.encodeWithSignature("renounceOwnership()");
        calls[20] = abi.encodeCall(PolicyGovernance.upgradeTo, (address(appCode)));
        calls[21] = abi.encodeWithSignature("upgradeToAndCall(address,bytes)", address(appCode), "");
        calls[22] = abi.encodeCall(DstackKms.initialize, (GUARDIAN, address(appCode)));
        uint64 epoch = kms.policyEpoch();
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(GUARDIAN);
            (bool guardians,) = address(kms).call(calls[i]);
            vm.prank(STRANGER);
            (bool strangers,) = address(kms).call(calls[i]);
            // In a batch each call is checked by itself.
            bytes[] memory batch = new bytes[](1);
            batch[0] = calls[i];
            vm.prank(GUARDIAN);
            (bool batched,) = address(kms).call(abi.encodeWithSignature("multicall(bytes[])", batch));
            assertTrue(!guardians && !strangers && !batched, vm.toString(i));
        }
        assertEq(kms.policyEpoch(), epoch);
        assertEq(kms.owner(), OWNER);
    }

    function testStrangersCannotTakeAway() external {
        bytes[] memory calls = new bytes[](7);
        calls[0] = abi.encodeCall(kms.removeOsImageHash, (IMAGE));
        calls[1] = abi.encodeCall(kms.removeMeasurement, (IMAGE));
        calls[2] = abi.encodeCall(kms.removeKmsAggregatedMr, (MR));
        calls[3] = abi.encodeCall(kms.removeKmsDevice, (DEVICE));
        calls[4] = abi.encodeCall(kms.blockApp, (address(app)));
        calls[5] = abi.encodeCall(kms.denyAdvisory, ("INTEL-SA-00837"));
        calls[6] = abi.encodeCall(kms.pause, ());
        for (uint256 i = 0; i < calls.length; ++i) {
            vm.prank(STRANGER);
            (bool success, bytes memory answer) = address(kms).call(calls[i]);
            assertTrue(!success, vm.toString(i));
            assertEq(
                keccak256(answer),
                keccak256(abi.encodeWithSelector(PolicyGovernance.NotOwnerOrGuardian.selector, STRANGER))
            );
            vm.prank(GUARDIAN);
            (success,) = address(kms).call(calls[i]);
            assertTrue(success, vm.toString(i));
        }
    }

    function testADismissedGuardianIsAStranger() external {
        vm.prank(OWNER);
        kms.setGuardian(GUARDIAN, false);
        assertEq(kms.isGuardian(GUARDIAN), false);
        vm.prank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(PolicyGovernance.NotOwnerOrGuardian.selector, GUARDIAN));
        kms.pause();
    }

    function testPauseComesFirst() external {
        vm.prank(GUARDIAN);
        kms.pause();
        assertEq(kms.paused(), true);
        IAppAuth.AppBootInfo memory nothing;
        expectApp("KMS contract is paused");
        expectKms("KMS contract is paused");
        expectApp(nothing, "KMS contract is paused");
        vm.prank(OWNER);
        kms.unpause();
        expectApp("");
    }

    function testDeniedAdvisory() external {
        vm.prank(GUARDIAN);
        kms.denyAdvisory("INTEL-SA-00837");
        assertEq(kms.advisoryDenied(keccak256("INTEL-SA-00837")), true);
        expectApp("Advisory is denied");
        expectKms("Advisory is denied");
        IAppAuth.AppBootInfo memory info = workload();
        info.advisoryIds = new string[](0);
        expectApp(info, "");
        vm.prank(OWNER);
        kms.allowAdvisory("INTEL-SA-00837");
        expectApp("");
    }

    function testABlockedAppStaysBlocked() external {
        vm.prank(GUARDIAN);
        kms.blockApp(address(app));
        vm.prank(STRANGER);
        kms.registerApp(address(app));
        expectApp("App is blocked");
        expectKms("");
        vm.prank(OWNER);
        kms.unblockApp(address(app));
        expectApp("");
    }

    function testExpiries() external {
        uint64 end = uint64(block.timestamp) + 100;
        vm.startPrank(OWNER);
        kms.setAppPolicyExpiry(address(app), end);
        kms.addOsImageHashUntil(IMAGE, end + 1);
        vm.stopPrank();
        assertEq(kms.appNotAfter(address(app)), end);
        assertEq(kms.osImageNotAfter(IMAGE), end + 1);
        vm.warp(end);
        expectApp("");
        vm.warp(end + 1);
        expectApp("App authorization expired");
        expectKms("");
        vm.warp(end + 2);
        expectKms("OS image authorization expired");
        assertEq(kms.isAuthorized(IMAGE), false);
        vm.startPrank(OWNER);
        kms.setAppPolicyExpiry(address(app), 0);
        expectApp("OS image authorization expired");
        // Adding without an end takes the end away.
        kms.addOsImageHash(IMAGE);
        vm.stopPrank();
        assertEq(kms.osImageNotAfter(IMAGE), 0);
        expectApp("");
    }

    function testRemovalForgetsTheEnd() external {
        vm.startPrank(OWNER);
        kms.addOsImageHashUntil(IMAGE, uint64(block.timestamp));
        kms.removeOsImageHash(IMAGE);
        vm.stopPrank();
        assertEq(kms.osImageNotAfter(IMAGE), 0);
    }

    function testZeroIsNoMeasurement() external {
        vm.startPrank(OWNER);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        kms.addOsImageHash(0);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        kms.addMeasurement(0);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        kms.addOsImageHashUntil(0, 1);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        kms.addKmsAggregatedMr(0);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        kms.addKmsDevice(0);
        vm.stopPrank();
    }

    function testDocumentedNames() external {
        assertEq(kms.isAuthorized(IMAGE), true);
        assertEq(kms.isAuthorized(MR), true);
        assertEq(kms.isAuthorized(COMPOSE), false);
        assertEq(kms.admin(), OWNER);
        assertEq(kms.version(), 3);
        address before = kms.implementation();
        address next = address(new DstackKms());
        vm.prank(OWNER);
        kms.upgradeTo(next);
        assertTrue(kms.implementation() == next && next != before, "implementation");
        assertEq(vm.load(address(kms), ERC1967Utils.IMPLEMENTATION_SLOT), bytes32(uint256(uint160(next))));
        vm.prank(OWNER);
        kms.setAdmin(STRANGER);
        assertEq(kms.owner(), STRANGER);
        expectApp("");
    }

    function testOwnershipInOneStepAndInTwo() external {
        vm.startPrank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableInvalidOwner.selector, address(0)));
        kms.transferOwnership(address(0));
        vm.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableInvalidOwner.selector, address(kms)));
        kms.transferOwnership(address(kms));
        vm.expectRevert(PolicyGovernance.RenounceDisabled.selector);
        kms.renounceOwnership();
        kms.startOwnershipTransfer(STRANGER);
        vm.stopPrank();
        assertEq(kms.pendingOwner(), STRANGER);
        assertEq(kms.owner(), OWNER);
        vm.prank(GUARDIAN);
        vm.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableUnauthorizedAccount.selector, GUARDIAN));
        kms.acceptOwnership();
        vm.prank(STRANGER);
        kms.acceptOwnership();
        assertEq(kms.owner(), STRANGER);
        assertEq(kms.pendingOwner(), address(0));
        // A script that accepts after a transfer in one step.
        vm.prank(STRANGER);
        kms.transferOwnership(OWNER);
        vm.prank(OWNER);
        kms.acceptOwnership();
        assertEq(kms.owner(), OWNER);
        // A transfer in one step ends an offer.
        vm.startPrank(OWNER);
        kms.startOwnershipTransfer(STRANGER);
        kms.transferOwnership(APP_OWNER);
        vm.stopPrank();
        vm.prank(STRANGER);
        vm.expectRevert(abi.encodeWithSelector(OwnableUpgradeable.OwnableUnauthorizedAccount.selector, STRANGER));
        kms.acceptOwnership();
    }

    function testAppImplementationMustBeOne() external {
        vm.startPrank(OWNER);
        vm.expectRevert(
            abi.encodeWithSelector(ERC1967Utils.ERC1967InvalidImplementation.selector, address(0xdead))
        );
        kms.setAppImplementation(address(0xdead));
        // A proxy has code and is no implementation.
        vm.expectRevert(
            abi.encodeWithSelector(ERC1967Utils.ERC1967InvalidImplementation.selector, address(app))
        );
        kms.setAppImplementation(address(app));
        vm.stopPrank();
    }

    function testDeterministicAddress() external {
        bytes32 salt = bytes32(uint256(7));
        address predicted =
            kms.predictAppAddress(STRANGER, salt, APP_OWNER, true, true, true, DEVICE, COMPOSE);
        // Somebody else with the same arguments gets another address, and cannot take this one.
        vm.prank(GUARDIAN);
        address other =
            kms.deployAndRegisterAppDeterministic(salt, APP_OWNER, true, true, true, DEVICE, COMPOSE);
        assertTrue(other != predicted, "front-run");
        vm.prank(STRANGER);
        DstackApp made =
            DstackApp(kms.deployAndRegisterAppDeterministic(salt, APP_OWNER, true, true, true, DEVICE, COMPOSE));
        assertEq(address(made), predicted);
        assertEq(kms.registeredApps(predicted), true);
        assertEq(made.owner(), APP_OWNER);
        assertEq(made.kms(), address(kms));
        assertTrue(made.requireTcbUpToDate() && made.upgradesDisabled() && made.allowAnyDevice(), "flags");
        vm.prank(STRANGER);
        vm.expectRevert();
        kms.deployAndRegisterAppDeterministic(salt, APP_OWNER, true, true, true, DEVICE, COMPOSE);
    }

    function testFuzzPrediction(
        address deployer,
        bytes32 salt,
        address owner,
        bool[3] calldata flags,
        bytes32 device,
        bytes32 composeHash
    ) external {
        vm.assume(owner != address(0));
        address predicted =
            kms.predictAppAddress(deployer, salt, owner, flags[0], flags[1], flags[2], device, composeHash);
        vm.prank(deployer);
        address made = kms.deployAndRegisterAppDeterministic(
            salt, owner, flags[0], flags[1], flags[2], device, composeHash
        );
        assertEq(made, predicted);
        assertEq(DstackApp(made).requireTcbUpToDate(), flags[1]);
    }

    function testFactoryWithTcbRequirement() external {
        DstackApp made =
            DstackApp(kms.deployAndRegisterApp(APP_OWNER, false, true, true, bytes32(0), COMPOSE));
        assertEq(made.requireTcbUpToDate(), true);
        IAppAuth.AppBootInfo memory info = workload();
        info.appId = address(made);
        expectApp(info, "");
        info.tcbStatus = "";
        expectApp(info, "TCB status is not up to date");
    }

    function testEpochGrowsWithEachChangeAndNothingElse() external {
        uint64 epoch = kms.policyEpoch();
        vm.startPrank(OWNER);
        kms.addOsImageHash(IMAGE);
        assertEq(kms.policyEpoch(), ++epoch);
        kms.addKmsDevice(IMAGE);
        assertEq(kms.policyEpoch(), ++epoch);
        kms.setGatewayAppId("gateway");
        assertEq(kms.policyEpoch(), ++epoch);
        kms.setGuardian(STRANGER, true);
        assertEq(kms.policyEpoch(), ++epoch);
        kms.upgradeToAndCall(address(new DstackKms()), "");
        assertEq(kms.policyEpoch(), ++epoch);
        vm.stopPrank();
        kms.registerApp(address(0xbeef));
        assertEq(kms.policyEpoch(), ++epoch);
        kms.registerApp(address(0xbeef));
        assertEq(kms.policyEpoch(), epoch);
    }

    function testSilentSettersAreHeard() external {
        vm.recordLogs();
        vm.startPrank(OWNER);
        kms.setKmsQuote("quote");
        kms.setKmsEventlog("eventlog");
        vm.stopPrank();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs.length, 2);
        assertEq(logs[0].topics[0], PolicyGovernance.PolicyChanged.selector);
        assertEq(logs[0].topics[1], bytes32(uint256(uint160(OWNER))));
        assertEq(logs[0].topics[2], 0xb6f296423fa020c66bcc9e7bd816509a60acd1245ab1357630ea57fe5a7a9f22);
        assertEq(logs[0].topics[3], keccak256("quote"));
        assertEq(logs[1].topics[2], 0xd1d9d5a00a80a3a1329df0232fd5dfe426409ff73ef7570842f18b7d1c210594);
    }

    function testBatch() external {
        bytes[] memory calls = new bytes[](3);
        calls[0] = abi.encodeCall(kms.addOsImageHash, (MR));
        calls[1] = abi.encodeCall(kms.removeOsImageHash, (IMAGE));
        calls[2] = abi.encodeCall(kms.pause, ());
        vm.prank(OWNER);
        kms.multicall(calls);
        assertTrue(kms.allowedOsImages(MR) && !kms.allowedOsImages(IMAGE) && kms.paused(), "batch");
        // All or nothing.
        calls[1] = abi.encodeCall(kms.addOsImageHash, (bytes32(0)));
        calls[0] = abi.encodeCall(kms.unpause, ());
        vm.prank(OWNER);
        vm.expectRevert(PolicyGovernance.InvalidMeasurement.selector);
        kms.multicall(calls);
        assertEq(kms.paused(), true);
    }
}
