// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {KmsStorage} from "./KmsStorage.sol";
import {IAppAuth} from "./IAppAuth.sol";

/// @title What stops everybody: a pause, and advisories that are denied
/// @notice The owner and guardians may stop; only the owner lets it go on.
abstract contract KmsStops is KmsStorage, IAppAuth {
    /// @notice Platforms with this advisory are denied.
    /// @param advisoryHash keccak256 of the id
    /// @param advisoryId for example INTEL-SA-00837
    event AdvisoryDenied(bytes32 indexed advisoryHash, string advisoryId);

    /// @notice Platforms with this advisory are not denied any more.
    /// @param advisoryHash keccak256 of the id
    /// @param advisoryId for example INTEL-SA-00837
    event AdvisoryAllowed(bytes32 indexed advisoryHash, string advisoryId);

    /// @notice Nothing is allowed until `unpause`.
    /// @param account who paused
    event Paused(address account);

    /// @notice The policy decides again.
    /// @param account who ended the pause
    event Unpaused(address account);

    /// @notice Deny platforms to which an advisory applies.
    /// @param advisoryId for example INTEL-SA-00837; compared byte by byte
    function denyAdvisory(string calldata advisoryId) external onlyOwnerOrGuardian {
        bytes32 hash = keccak256(bytes(advisoryId));
        _ext().deniedAdvisories[hash] = true;
        emit AdvisoryDenied(hash, advisoryId);
        _changed(keccak256("denied-advisory"), hash, true);
    }

    /// @notice Do not deny platforms for this advisory any more.
    /// @param advisoryId for example INTEL-SA-00837
    function allowAdvisory(string calldata advisoryId) external loosens {
        bytes32 hash = keccak256(bytes(advisoryId));
        _ext().deniedAdvisories[hash] = false;
        emit AdvisoryAllowed(hash, advisoryId);
        _changed(keccak256("denied-advisory"), hash, false);
    }

    /// @notice Allow nothing, to nobody, until `unpause`.
    function pause() external onlyOwnerOrGuardian {
        _ext().paused = true;
        emit Paused(msg.sender);
        _changed(keccak256("paused"), 0, true);
    }

    /// @notice End the pause.
    function unpause() external loosens {
        _ext().paused = false;
        emit Unpaused(msg.sender);
        _changed(keccak256("paused"), 0, false);
    }

    /// @notice Is everything denied?
    /// @return true until `unpause`
    function paused() external view returns (bool) {
        return _ext().paused;
    }

    /// @notice Are platforms with this advisory denied?
    /// @param advisoryHash keccak256 of the id
    /// @return true if they are
    function advisoryDenied(bytes32 advisoryHash) external view returns (bool) {
        return _ext().deniedAdvisories[advisoryHash];
    }

    /// @dev What is checked first for everybody; empty if nothing denies.
    function _commonDenial(AppBootInfo calldata bootInfo) internal view returns (string memory) {
        if (_ext().paused) return "KMS contract is paused";
        uint256 count = bootInfo.advisoryIds.length;
        for (uint256 i = 0; i < count; ++i) {
            if (_ext().deniedAdvisories[keccak256(bytes(bootInfo.advisoryIds[i]))]) return "Advisory is denied";
        }
        return "";
    }
}
