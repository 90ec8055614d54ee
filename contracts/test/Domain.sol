// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {DstackApp} from "../contracts/DstackApp.sol";
import {DstackKms} from "../contracts/DstackKms.sol";
import {IAppAuth} from "../contracts/IAppAuth.sol";
import {TestBase} from "./TestBase.sol";

/// @dev A KMS domain with one app that allows one workload.
abstract contract Domain is TestBase {
    address internal constant OWNER = address(0xA11CE);
    address internal constant APP_OWNER = address(0xB0B);
    address internal constant GUARDIAN = address(0x60A2D);
    address internal constant STRANGER = address(0x5742A);

    bytes32 internal constant IMAGE = keccak256("image");
    bytes32 internal constant COMPOSE = keccak256("compose");
    bytes32 internal constant DEVICE = keccak256("device");
    bytes32 internal constant MR = keccak256("mr");

    DstackKms internal kms;
    DstackApp internal app;
    DstackApp internal appCode;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        appCode = new DstackApp();
        bytes memory init = abi.encodeCall(DstackKms.initialize, (OWNER, address(appCode)));
        kms = DstackKms(address(new ERC1967Proxy(address(new DstackKms()), init)));
        app = DstackApp(kms.deployAndRegisterApp(APP_OWNER, false, false, DEVICE, COMPOSE));
        vm.startPrank(OWNER);
        kms.addOsImageHash(IMAGE);
        kms.addKmsAggregatedMr(MR);
        kms.addKmsDevice(DEVICE);
        kms.setGuardian(GUARDIAN, true);
        vm.stopPrank();
        vm.prank(APP_OWNER);
        app.setGuardian(GUARDIAN, true);
    }

    /// @dev The workload that everything allows.
    function workload() internal view returns (IAppAuth.AppBootInfo memory info) {
        info.appId = address(app);
        info.composeHash = COMPOSE;
        info.instanceId = address(1);
        info.deviceId = DEVICE;
        info.mrAggregated = MR;
        info.osImageHash = IMAGE;
        info.tcbStatus = "UpToDate";
        info.advisoryIds = new string[](2);
        info.advisoryIds[0] = "INTEL-SA-00001";
        info.advisoryIds[1] = "INTEL-SA-00837";
    }

    function expectApp(IAppAuth.AppBootInfo memory info, string memory reason) internal view {
        (bool isAllowed, string memory found) = kms.isAppAllowed(info);
        assertEq(found, reason);
        assertEq(isAllowed, bytes(reason).length == 0);
    }

    function expectKms(IAppAuth.AppBootInfo memory info, string memory reason) internal view {
        (bool isAllowed, string memory found) = kms.isKmsAllowed(info);
        assertEq(found, reason);
        assertEq(isAllowed, bytes(reason).length == 0);
    }

    function expectApp(string memory reason) internal view {
        expectApp(workload(), reason);
    }

    function expectKms(string memory reason) internal view {
        expectKms(workload(), reason);
    }
}
