// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {DstackAttestationRegistry} from "../contracts/DstackAttestationRegistry.sol";
import {TestBase, Vm} from "./TestBase.sol";

contract DstackAttestationRegistryTest is TestBase {
    address private constant ADMIN = address(0xA11CE);
    address private constant VERIFIER = address(0x7E21F1);
    address private constant STRANGER = address(0x5742A);

    DstackAttestationRegistry private _registry;
    bytes32 private _role;

    function setUp() public {
        _registry = new DstackAttestationRegistry(ADMIN);
        _role = _registry.VERIFIER_ROLE();
        vm.prank(ADMIN);
        _registry.grantRole(_role, VERIFIER);
    }

    function _publish(string memory uri) private returns (bytes32) {
        return _registry.publish(bytes32(uint256(1)), bytes32(uint256(2)), bytes32(uint256(3)), bytes32(uint256(4)), uri);
    }

    function testAnybodyPublishesOnce() external {
        vm.startPrank(STRANGER);
        vm.recordLogs();
        bytes32 id = _publish("https://example.com/quote");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs[0].topics[0], 0x81003a9bd047e53368aa7856b09e2ae243163df90999606cd2dc6b2367923032);
        assertEq(logs[0].topics[1], id);
        assertEq(logs[0].topics[2], bytes32(uint256(1)));
        assertEq(_registry.publisherOf(id), STRANGER);
        vm.expectRevert(abi.encodeWithSelector(DstackAttestationRegistry.AlreadyPublished.selector, id));
        _publish("https://example.com/quote");
        vm.stopPrank();
        // Nobody takes another's id.
        assertTrue(_publish("https://example.com/quote") != id, "id");
    }

    function testOnlyVerifiersJudge() external {
        bytes32 id = _publish("");
        vm.prank(STRANGER);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, _role)
        );
        _registry.attest(id, true, "");
        vm.recordLogs();
        vm.prank(VERIFIER);
        _registry.attest(id, true, "fine");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        assertEq(logs[0].topics[0], 0xd18e79c1ac01bf2038c34a8109e7e228093eef53fdf53a736a1ff1b60c199e06);
        assertEq(logs[0].topics[2], bytes32(uint256(uint160(VERIFIER))));
        vm.prank(VERIFIER);
        vm.expectRevert(abi.encodeWithSelector(DstackAttestationRegistry.UnknownAttestation.selector, _role));
        _registry.attest(_role, true, "");
    }

    /// `verifyAndAttestOnChain(bytes)` is not offered: a call must not look like a verdict.
    function testNothingIsVerifiedOnChain() external {
        vm.prank(VERIFIER);
        // solhint-disable-next-line avoid-low-level-calls
        (bool ok,) = address(_registry).call(abi.encodeWithSelector(0x38d8480a, bytes("quote")));
        assertTrue(!ok, "answered");
    }

    function testTextsAreBounded() external {
        _publish(string(new bytes(1024)));
        vm.expectRevert(abi.encodeWithSelector(DstackAttestationRegistry.TextTooLong.selector, 1025));
        _publish(string(new bytes(1025)));
    }
}
