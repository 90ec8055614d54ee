// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {IAppAuth} from "./IAppAuth.sol";

/// @title Asks a contract that anybody may have written
/// @notice A contract that reverts, burns its gas, answers at length or answers nonsense is one that allows
/// nothing; the caller goes on and can say so.
library BoundedAppAuth {
    /// @dev Far more than a policy needs, and less than a node gives to a call.
    uint256 private constant MAX_GAS = 10_000_000;
    /// @dev Longest answer that is read, in bytes. A `(bool, string)` has at least three words.
    uint256 private constant MAX_ANSWER = 4096;

    /// @dev `try` would not do: Solidity decodes the answer in the caller, and reverts there.
    /// @param target contract that decides
    /// @param bootInfo the verified facts
    /// @return isAnswer true if the answer is a `(bool, string)` within bounds
    /// @return isAllowed the answer
    /// @return reason the answer
    function ask(address target, IAppAuth.AppBootInfo calldata bootInfo)
        internal
        view
        returns (bool isAnswer, bool isAllowed, string memory reason)
    {
        bytes memory question = abi.encodeCall(IAppAuth.isAppAllowed, (bootInfo));
        assembly ("memory-safe") {
            let success := staticcall(MAX_GAS, target, add(question, 0x20), mload(question), 0, 0)
            let size := returndatasize()
            if and(success, and(gt(size, 0x5f), lt(size, add(MAX_ANSWER, 1)))) {
                returndatacopy(0, 0, 0x40)
                let flag := mload(0)
                let offset := mload(0x20)
                if and(lt(flag, 2), lt(offset, sub(size, 0x1f))) {
                    returndatacopy(0, offset, 0x20)
                    let length := mload(0)
                    if iszero(gt(length, sub(sub(size, 0x20), offset))) {
                        reason := mload(0x40)
                        let text := add(reason, 0x20)
                        mstore(reason, length)
                        // The last word of the text is padded with zeros.
                        mstore(add(text, and(length, not(0x1f))), 0)
                        returndatacopy(text, add(offset, 0x20), length)
                        mstore(0x40, add(text, and(add(length, 0x3f), not(0x1f))))
                        isAllowed := flag
                        isAnswer := 1
                    }
                }
            }
        }
    }
}
