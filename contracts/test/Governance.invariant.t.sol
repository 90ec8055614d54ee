// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {DstackApp} from "../contracts/DstackApp.sol";
import {DstackKms} from "../contracts/DstackKms.sol";
import {IAppAuth} from "../contracts/IAppAuth.sol";
import {PolicyGovernance} from "../contracts/PolicyGovernance.sol";
import {Domain} from "./Domain.sol";
import {TestBase} from "./TestBase.sol";

/// @dev Anybody calls anything with values that matter, and notes what that did to the decisions.
contract Anybody is Domain {
    uint256 private constant WORKLOADS = 4;

    uint64 public kmsEpoch;
    uint64 public appEpoch;
    bool public upgradesWereDisabled;
    /// @dev What went wrong; empty if nothing did.
    string public fault;
    uint256 public accepted;
    bool private immutable _isDelayed;

    /// @param delay of both policies; nothing is ever announced
    constructor(uint64 delay) {
        setUp();
        _isDelayed = delay != 0;
        if (_isDelayed) {
            vm.prank(OWNER);
            kms.setPolicyDelay(delay);
            vm.prank(APP_OWNER);
            app.setPolicyDelay(delay);
        }
        (kmsEpoch, appEpoch) = (kms.policyEpoch(), app.policyEpoch());
    }

    function registry() external view returns (DstackKms, DstackApp) {
        return (kms, app);
    }

    function _hash(uint256 random) private pure returns (bytes32) {
        return [IMAGE, COMPOSE, DEVICE, MR, bytes32(0)][random % 5];
    }

    /// @dev Bit n is the decision about workload n.
    function decisions() public view returns (uint256 bits) {
        for (uint256 n = 0; n < WORKLOADS; ++n) {
            IAppAuth.AppBootInfo memory info = workload();
            if (n & 1 != 0) (info.composeHash, info.tcbStatus) = (IMAGE, "OutOfDate");
            if (n & 2 != 0) (info.deviceId, info.advisoryIds) = (MR, new string[](0));
            (bool isApp,) = kms.isAppAllowed(info);
            (bool isKms,) = kms.isKmsAllowed(info);
            if (isApp) bits |= 1 << n;
            if (isKms) bits |= 1 << (WORKLOADS + n);
        }
    }

    function callKms(uint256 who, uint256 what, uint256 random, uint64 time) external {
        _call(who, address(kms), _kmsCall(what % 24, random, time), what % 24 == 20);
    }

    function callApp(uint256 who, uint256 what, uint256 random, uint64 time) external {
        _call(who, address(app), _appCall(what % 15, random, time), false);
    }

    function callInABatch(uint256 who, uint256 what, uint256 random, uint64 time) external {
        bytes[] memory calls = new bytes[](2);
        calls[0] = _kmsCall(what % 20, random, time);
        calls[1] = _kmsCall(random % 20, what, time);
        _call(who, address(kms), abi.encodeWithSignature("multicall(bytes[])", calls), false);
    }

    function wait(uint16 secs) external {
        vm.warp(block.timestamp + secs);
    }

    function _call(uint256 who, address target, bytes memory data, bool mayRegister) private {
        address sender = [OWNER, APP_OWNER, GUARDIAN, STRANGER][who % 4];
        uint256 before = decisions();
        address ownerBefore = target == address(kms) ? kms.owner() : app.owner();
        vm.prank(sender);
        (bool success,) = target.call(data);
        uint256 afterwards = decisions();
        (uint64 kmsNow, uint64 appNow) = (kms.policyEpoch(), app.policyEpoch());
        bool isOwner = sender == ownerBefore;
        if (success) ++accepted;

        if (kmsNow < kmsEpoch || appNow < appEpoch) fault = "an epoch went back";
        bool isCounted = kmsNow > kmsEpoch || appNow > appEpoch;
        if (afterwards != before && !isCounted) fault = "a decision changed without an epoch";
        if (afterwards & ~before != 0 && !isOwner && !mayRegister) fault = "somebody else added";
        if (afterwards & ~before != 0 && _isDelayed) fault = "something was added that was not announced";
        if (sender == STRANGER && !isOwner && isCounted && !mayRegister) fault = "a stranger changed the policy";
        if (kms.paused() && afterwards != 0) fault = "a paused KMS allowed something";
        if (!success && isCounted) fault = "a refused call left a trace";
        if (upgradesWereDisabled && !app.upgradesDisabled()) fault = "upgrades came back";
        upgradesWereDisabled = app.upgradesDisabled();
        (kmsEpoch, appEpoch) = (kmsNow, appNow);
    }

    function _kmsCall(uint256 what, uint256 random, uint64 time) private view returns (bytes memory) {
        bytes32 hash = _hash(random);
        uint64 end = time % 2 == 0 ? 0 : uint64(block.timestamp) + time % 200_000;
        if (what == 0) return abi.encodeCall(kms.addOsImageHash, (hash));
        if (what == 1) return abi.encodeCall(kms.removeOsImageHash, (hash));
        if (what == 2) return abi.encodeCall(kms.addKmsAggregatedMr, (hash));
        if (what == 3) return abi.encodeCall(kms.removeKmsAggregatedMr, (hash));
        if (what == 4) return abi.encodeCall(kms.addKmsDevice, (hash));
        if (what == 5) return abi.encodeCall(kms.removeKmsDevice, (hash));
        if (what == 6) return abi.encodeCall(kms.addOsImageHashUntil, (hash, end));
        if (what == 7) return abi.encodeCall(kms.setAppPolicyExpiry, (address(app), end));
        if (what == 8) return abi.encodeCall(kms.blockApp, (address(app)));
        if (what == 9) return abi.encodeCall(kms.unblockApp, (address(app)));
        if (what == 10) return abi.encodeCall(kms.denyAdvisory, ("INTEL-SA-00837"));
        if (what == 11) return abi.encodeCall(kms.allowAdvisory, ("INTEL-SA-00837"));
        if (what == 12) return abi.encodeCall(kms.pause, ());
        if (what == 13 || what == 14) return abi.encodeCall(kms.unpause, ());
        if (what == 15) return abi.encodeCall(kms.addMeasurement, (hash));
        if (what == 16) return abi.encodeCall(kms.removeMeasurement, (hash));
        if (what == 17) return abi.encodeCall(kms.setGatewayAppId, ("gateway"));
        if (what == 18) return abi.encodeCall(kms.setAppImplementation, (address(appCode)));
        if (what == 19) return abi.encodeWithSignature("renounceOwnership()");
        if (what == 20) return abi.encodeCall(kms.registerApp, (address(app)));
        if (what == 21) return abi.encodeWithSignature("acceptOwnership()");
        if (what == 22) return abi.encodeCall(PolicyGovernance.startOwnershipTransfer, (STRANGER));
        return abi.encodeCall(DstackKms.initialize, (STRANGER, address(appCode)));
    }

    function _appCall(uint256 what, uint256 random, uint64 time) private view returns (bytes memory) {
        bytes32 hash = _hash(random);
        uint64 end = time % 2 == 0 ? 0 : uint64(block.timestamp) + time % 200_000;
        if (what == 0) return abi.encodeWithSignature("addComposeHash(bytes32)", hash);
        if (what == 1) return abi.encodeWithSignature("removeComposeHash(bytes32)", hash);
        if (what == 2) return abi.encodeWithSignature("addDevice(bytes32)", hash);
        if (what == 3) return abi.encodeWithSignature("removeDevice(bytes32)", hash);
        if (what == 4) return abi.encodeCall(DstackApp.addComposeHashUntil, (hash, end));
        if (what == 5) return abi.encodeCall(DstackApp.replaceComposeHash, (hash, _hash(random >> 8), time % 999));
        if (what == 6) return abi.encodeCall(DstackApp.setAllowAnyDevice, (random % 2 == 0));
        if (what == 7) return abi.encodeCall(DstackApp.setRequireTcbUpToDate, (random % 2 == 0));
        if (what == 8) return abi.encodeCall(DstackApp.setKms, (address(uint160(random))));
        if (what == 9) return abi.encodeCall(DstackApp.disableUpgrades, ());
        if (what == 10) return abi.encodeWithSignature("renounceOwnership()");
        if (what == 11) return abi.encodeWithSignature("acceptOwnership()");
        if (what == 12) return abi.encodeCall(PolicyGovernance.upgradeTo, (address(appCode)));
        if (what == 13) return abi.encodeCall(PolicyGovernance.setGuardian, (address(uint160(random)), true));
        return abi.encodeWithSignature("initialize(address,bool,bool,bytes32,bytes32)", STRANGER, true, true, 0, 0);
    }
}

contract DelayedGovernanceTest is TestBase {
    /// @dev With a delay nobody adds anything that was not announced, the owner included.
    /// forge-config: default.fuzz.runs = 24
    function testFuzzNothingIsAddedUnannounced(uint256 seed) external {
        Anybody anybody = new Anybody(1 days);
        for (uint256 n = 0; n < 24; ++n) {
            seed = uint256(keccak256(abi.encode(seed)));
            (uint256 who, uint256 what, uint64 time) = (seed >> 8, seed >> 16, uint64(seed >> 192));
            if (seed % 4 == 0) anybody.callInABatch(who, what, seed, time);
            else if (seed % 4 == 1) anybody.callApp(who, what, seed, time);
            else anybody.callKms(who, what, seed, time);
        }
        assertEq(anybody.fault(), "");
    }
}

contract GovernanceInvariantTest is Domain {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Anybody private _anybody;

    function setUp() public override {
        _anybody = new Anybody(0);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_anybody);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](4);
        selectors[0] = Anybody.callKms.selector;
        selectors[1] = Anybody.callApp.selector;
        selectors[2] = Anybody.callInABatch.selector;
        selectors[3] = Anybody.wait.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_anybody), selectors);
    }

    /// @dev The calls that were tried must not all have been refused.
    function afterInvariant() external view {
        assertTrue(_anybody.accepted() > 4, "too few calls were accepted");
    }

    /// @dev Only owners add; guardians only take away; strangers change nothing; each change is counted; a pause
    /// allows nothing; upgrades never come back. Ownership moves by nothing but its functions. The slots that are
    /// left for other versions stay empty.
    function invariantGovernance() external view {
        assertEq(_anybody.fault(), "");
        (DstackKms registry, DstackApp policy) = _anybody.registry();
        assertTrue(registry.owner() == OWNER || registry.owner() == STRANGER, "owner of the registry");
        assertEq(policy.owner(), APP_OWNER);
        for (uint256 slot = 10; slot < 60; ++slot) {
            assertEq(vm.load(address(registry), bytes32(slot)), 0);
        }
        for (uint256 slot = 4; slot < 53; ++slot) {
            assertEq(vm.load(address(policy), bytes32(slot)), 0);
        }
    }
}
