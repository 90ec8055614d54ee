// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title Timelock whose operations expire
/// @notice OpenZeppelin's TimelockController keeps a ready operation for ever: an approval that everybody forgot
/// can still be executed years later. Here it lapses after a grace period.
contract DstackTimelock is TimelockController {
    /// @notice Seconds for which a ready operation can be executed; 0 is for ever.
    uint256 public immutable gracePeriod;

    /// @notice The operation was not executed in time. Cancel it, and schedule it again if it is still wanted.
    /// @param id of the operation
    /// @param expiredAt last second at which it could be executed
    error OperationExpired(bytes32 id, uint256 expiredAt);

    /// @param minDelay seconds between scheduling and execution, at least
    /// @param proposers who may schedule and cancel
    /// @param executors who may execute; the zero address stands for everybody
    /// @param admin who may change roles without delay, or zero for nobody
    /// @param grace seconds for which a ready operation can be executed; 0 is for ever
    constructor(
        uint256 minDelay,
        address[] memory proposers,
        address[] memory executors,
        address admin,
        uint256 grace
    ) TimelockController(minDelay, proposers, executors, admin) {
        gracePeriod = grace;
    }

    /// @notice Was the operation ready, and is it too late to execute it now?
    /// @param id of the operation
    /// @return true if `execute` refuses it for its age
    function isOperationExpired(bytes32 id) public view returns (bool) {
        (bool isExpired,) = _expiry(id);
        return isExpired;
    }

    /// @inheritdoc TimelockController
    function execute(address target, uint256 value, bytes calldata payload, bytes32 predecessor, bytes32 salt)
        public
        payable
        override
    {
        _requireUnexpired(hashOperation(target, value, payload, predecessor, salt));
        super.execute(target, value, payload, predecessor, salt);
    }

    /// @inheritdoc TimelockController
    function executeBatch(
        address[] calldata targets,
        uint256[] calldata values,
        bytes[] calldata payloads,
        bytes32 predecessor,
        bytes32 salt
    ) public payable override {
        _requireUnexpired(hashOperationBatch(targets, values, payloads, predecessor, salt));
        super.executeBatch(targets, values, payloads, predecessor, salt);
    }

    function _requireUnexpired(bytes32 id) private view {
        (bool isExpired, uint256 expiredAt) = _expiry(id);
        if (isExpired) revert OperationExpired(id, expiredAt);
    }

    /// @dev Operations that are unknown or done have no time, and the base contract refuses them.
    function _expiry(bytes32 id) private view returns (bool isExpired, uint256 expiredAt) {
        if (gracePeriod == 0 || !isOperationPending(id)) return (false, 0);
        uint256 readyAt = getTimestamp(id);
        // A grace period that reaches past the end of time is for ever.
        if (gracePeriod > type(uint256).max - readyAt) return (false, 0);
        expiredAt = readyAt + gracePeriod;
        isExpired = block.timestamp > expiredAt;
    }
}
