// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

/// @dev The cheat codes of forge that these tests use.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function expectRevert() external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function warp(uint256 time) external;
    function assume(bool condition) external pure;
    function etch(address target, bytes calldata code) external;
    function load(address target, bytes32 slot) external view returns (bytes32);
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory);
    function deal(address account, uint256 balance) external;
    function toString(uint256 value) external pure returns (string memory);
}

/// @dev What forge's library is used for elsewhere; npm has no usable one.
abstract contract TestBase {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error NotEqual(bytes32 found, bytes32 expected);
    error TextsDiffer(string found, string expected);
    error NotTrue(string what);

    function assertTrue(bool condition, string memory what) internal pure {
        if (!condition) revert NotTrue(what);
    }

    function assertEq(uint256 found, uint256 expected) internal pure {
        if (found != expected) revert NotEqual(bytes32(found), bytes32(expected));
    }

    function assertEq(bytes32 found, bytes32 expected) internal pure {
        if (found != expected) revert NotEqual(found, expected);
    }

    function assertEq(address found, address expected) internal pure {
        assertEq(uint256(uint160(found)), uint256(uint160(expected)));
    }

    function assertEq(bool found, bool expected) internal pure {
        assertEq(found ? 1 : 0, expected ? uint256(1) : 0);
    }

    function assertEq(string memory found, string memory expected) internal pure {
        if (keccak256(bytes(found)) != keccak256(bytes(expected))) revert TextsDiffer(found, expected);
    }
}
