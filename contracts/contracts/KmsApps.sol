// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {KmsStorage} from "./KmsStorage.sol";

/// @title Apps of a KMS domain
/// @notice Anybody registers apps, whose own policies decide; the registry's owner and guardians can block one.
abstract contract KmsApps is KmsStorage {
    /// @notice An app may ask for keys.
    /// @param appId its contract
    event AppRegistered(address appId);

    /// @notice An app got an end, or lost it.
    /// @param appId which
    /// @param notAfter last second at which it may have keys, unix time; 0 for no end
    event AppPolicyExpirySet(address indexed appId, uint64 notAfter);

    /// @notice An app was blocked, whatever its own policy says.
    /// @param appId which
    /// @param actor who blocked it
    event AppBlocked(address indexed appId, address indexed actor);

    /// @notice An app is not blocked any more.
    /// @param appId which
    /// @param actor who unblocked it
    event AppUnblocked(address indexed appId, address indexed actor);

    /// @notice Give an app an end. Registration is open to everybody, so this and `blockApp` are the registry
    /// owner's levers against one app.
    /// @param appId which
    /// @param notAfter last second at which it may have keys, unix time; 0 for no end
    function setAppPolicyExpiry(address appId, uint64 notAfter) external onlyOwner {
        uint64 before = _ext().appNotAfter[appId];
        if (notAfter == 0 || (before != 0 && notAfter > before)) _requireLead();
        _ext().appNotAfter[appId] = notAfter;
        emit AppPolicyExpirySet(appId, notAfter);
        _changed(keccak256("app-expiry"), _word(appId), notAfter != 0);
    }

    /// @notice Deny an app, whatever its own policy says.
    /// @param appId which
    function blockApp(address appId) external onlyOwnerOrGuardian {
        _ext().blocked[appId] = true;
        emit AppBlocked(appId, msg.sender);
        _changed(keccak256("blocked-app"), _word(appId), true);
    }

    /// @notice Leave an app to its own policy again.
    /// @param appId which
    function unblockApp(address appId) external loosens {
        _ext().blocked[appId] = false;
        emit AppUnblocked(appId, msg.sender);
        _changed(keccak256("blocked-app"), _word(appId), false);
    }

    /// @notice Is this app denied, whatever its own policy says?
    /// @param appId which
    /// @return true if it is
    function blockedApps(address appId) external view returns (bool) {
        return _ext().blocked[appId];
    }

    /// @notice End of an app.
    /// @param appId which
    /// @return last second at which it may have keys, unix time; 0 for no end
    function appNotAfter(address appId) external view returns (uint64) {
        return _ext().appNotAfter[appId];
    }

    /// @notice Let an app ask for keys. Anyone may register any app: its own policy still decides.
    /// @param appId its contract
    function registerApp(address appId) public {
        require(appId != address(0), "Invalid app ID");
        bool isNew = !registeredApps[appId];
        registeredApps[appId] = true;
        emit AppRegistered(appId);
        // Who registers again what is registered must not make others forget what they know.
        if (isNew) _changed(keccak256("registered-app"), _word(appId), true);
    }
}
