// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {DstackApp} from "../contracts/DstackApp.sol";
import {IAppAuth} from "../contracts/IAppAuth.sol";
import {Domain} from "./Domain.sol";

/// @dev Answers with bytes that a test chose.
contract Parrot {
    bytes private _answer;

    constructor(bytes memory answer) {
        _answer = answer;
    }

    fallback() external {
        bytes memory answer = _answer;
        assembly {
            return(add(answer, 0x20), mload(answer))
        }
    }
}

/// @dev An app may be anybody's code. Whatever it does, the registry answers.
contract HostileAppsTest is Domain {
    string private constant FAILED = "App authorization call failed";

    function _expect(address hostile, string memory reason) private {
        kms.registerApp(hostile);
        IAppAuth.AppBootInfo memory info = workload();
        info.appId = hostile;
        expectApp(info, reason);
        // The same from the app's side.
        vm.prank(APP_OWNER);
        app.setKms(hostile);
        (bool isAllowed, string memory found) = app.checkBoot(workload());
        assertEq(isAllowed, false);
        assertTrue(bytes(found).length > 0, "reason");
    }

    function _code(bytes memory code) private returns (address hostile) {
        hostile = address(uint160(uint256(keccak256(code))));
        vm.etch(hostile, code);
    }

    function testReverts() external {
        // PUSH1 0, PUSH1 0, REVERT
        _expect(_code(hex"60006000fd"), FAILED);
    }

    function testInvalidOpcode() external {
        _expect(_code(hex"fe"), FAILED);
    }

    function testBurnsItsGas() external {
        // JUMPDEST, PUSH1 0, JUMP
        _expect(_code(hex"5b600056"), FAILED);
    }

    function testAnswersFourMegabytes() external {
        // PUSH3 0x400000, PUSH1 0, RETURN
        _expect(_code(hex"624000006000f3"), FAILED);
    }

    function testNoAnswer() external {
        _expect(_code(hex"00"), FAILED);
    }

    function testShortAnswer() external {
        _expect(address(new Parrot(abi.encode(true))), FAILED);
        _expect(address(new Parrot(abi.encode(true, uint256(0x40)))), FAILED);
    }

    function testTwoIsNoBool() external {
        _expect(address(new Parrot(abi.encode(uint256(2), uint256(0x40), uint256(0)))), FAILED);
        _expect(address(new Parrot(abi.encode(type(uint256).max, uint256(0x40), uint256(0)))), FAILED);
    }

    function testTextBeyondTheAnswer() external {
        _expect(address(new Parrot(abi.encode(true, uint256(0x40), uint256(1)))), FAILED);
        _expect(address(new Parrot(abi.encode(true, uint256(0x41), uint256(0)))), FAILED);
        _expect(address(new Parrot(abi.encode(true, type(uint256).max, uint256(0)))), FAILED);
        _expect(address(new Parrot(abi.encode(true, uint256(0x40), type(uint256).max))), FAILED);
    }

    function testTheLargestAnswerThatIsRead() external {
        bytes memory text = new bytes(4096 - 96);
        text[4095 - 96] = "!";
        _expect(address(new Parrot(abi.encode(false, string(text)))), string(text));
        _expect(address(new Parrot(abi.encode(false, string(new bytes(4097 - 96))))), FAILED);
    }

    function testKeepsTheRegistryAlive() external {
        DstackApp other = DstackApp(kms.deployAndRegisterApp(APP_OWNER, false, true, bytes32(0), COMPOSE));
        IAppAuth.AppBootInfo memory info = workload();
        info.appId = address(other);
        expectApp(info, "");
    }

    /// @dev What `abi.decode` accepts is accepted with the same result, and nothing else.
    function testFuzzDecodesAsSolidityDoes(bytes calldata answer) external {
        _compare(answer);
    }

    function testFuzzDecodesWellFormed(bool flag, string calldata reason) external {
        vm.assume(bytes(reason).length < 3000);
        _compare(abi.encode(flag, reason));
    }

    function testFuzzDecodesNearlyWellFormed(uint8 flag, uint16 offset, uint16 length, bytes calldata tail)
        external
    {
        _compare(abi.encodePacked(uint256(flag % 4), uint256(offset % 200), uint256(length % 200), tail));
    }

    function decode(bytes calldata answer) external pure returns (bool, string memory) {
        return abi.decode(answer, (bool, string));
    }

    function _compare(bytes memory answer) private {
        vm.assume(answer.length <= 4096);
        address parrot = address(new Parrot(answer));
        kms.registerApp(parrot);
        IAppAuth.AppBootInfo memory info = workload();
        info.appId = parrot;
        (bool isAllowed, string memory reason) = kms.isAppAllowed(info);
        try this.decode(answer) returns (bool flag, string memory text) {
            assertEq(isAllowed, flag);
            assertEq(reason, text);
        } catch {
            assertEq(isAllowed, false);
            assertEq(reason, FAILED);
        }
    }
}
