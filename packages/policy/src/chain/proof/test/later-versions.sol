// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

// Decisions of the later contract versions (chapter 60 sections 4.1, 5.1 and 5.2) with the storage of section 2.4,
// and functions that let a test set every input. Not for use: anybody may call them.

struct AppBootInfo {
    address appId;
    bytes32 composeHash;
    address instanceId;
    bytes32 deviceId;
    bytes32 mrAggregated;
    bytes32 mrSystem;
    bytes32 osImageHash;
    string tcbStatus;
    string[] advisoryIds;
}

interface IAppAuth {
    function isAppAllowed(AppBootInfo calldata b) external view returns (bool isAllowed, string memory reason);
}

contract Kms3 {
    bytes[4] private kmsInfo;
    string public gatewayAppId;
    mapping(address => bool) public registeredApps;
    mapping(bytes32 => bool) public kmsAllowedAggregatedMrs;
    mapping(bytes32 => bool) public kmsAllowedDeviceIds;
    mapping(bytes32 => bool) public allowedOsImages;
    address public appImplementation;

    /// @custom:storage-location erc7201:dstack.storage.DstackKmsExt
    struct Ext {
        uint64 epoch;
        bool paused;
        mapping(address => bool) guardians;
        mapping(address => bool) blocked;
        mapping(bytes32 => uint64) osNotAfter;
        mapping(address => uint64) appNotAfter;
        mapping(bytes32 => bool) deniedAdvisories;
    }

    function ext() private pure returns (Ext storage e) {
        assembly {
            e.slot := 0x73d0001025a09922cc035ecb5964a5e707f8610a2012e1cf98cf6a27908dfb00
        }
    }

    function setGatewayAppId(string calldata id) external { gatewayAppId = id; }
    function setAppImplementation(address a) external { appImplementation = a; }
    function setRegistered(address a, bool on) external { registeredApps[a] = on; }
    function setMr(bytes32 v, bool on) external { kmsAllowedAggregatedMrs[v] = on; }
    function setDevice(bytes32 v, bool on) external { kmsAllowedDeviceIds[v] = on; }
    function setImage(bytes32 v, bool on) external { allowedOsImages[v] = on; }
    function setPaused(bool on) external { ext().paused = on; ext().epoch++; }
    function setGuardian(address a, bool on) external { ext().guardians[a] = on; ext().epoch++; }
    function setBlocked(address a, bool on) external { ext().blocked[a] = on; ext().epoch++; }
    function setImageNotAfter(bytes32 v, uint64 t) external { ext().osNotAfter[v] = t; ext().epoch++; }
    function setAppNotAfter(address a, uint64 t) external { ext().appNotAfter[a] = t; ext().epoch++; }
    function setAdvisory(string calldata id, bool on) external {
        ext().deniedAdvisories[keccak256(bytes(id))] = on;
        ext().epoch++;
    }

    function supportsInterface(bytes4) external pure returns (bool) { return true; }

    function common(AppBootInfo calldata b) private view returns (string memory) {
        if (ext().paused) return "KMS contract is paused";
        for (uint256 i = 0; i < b.advisoryIds.length; i++) {
            if (ext().deniedAdvisories[keccak256(bytes(b.advisoryIds[i]))]) return "Advisory is denied";
        }
        return "";
    }

    function image(bytes32 v) private view returns (string memory) {
        if (!allowedOsImages[v]) return "OS image is not allowed";
        if (expired(ext().osNotAfter[v])) return "OS image authorization expired";
        return "";
    }

    function expired(uint64 t) private view returns (bool) { return t != 0 && block.timestamp > t; }

    function isKmsAllowed(AppBootInfo calldata b) external view returns (bool, string memory) {
        string memory why = common(b);
        if (bytes(why).length > 0) return (false, why);
        if (keccak256(bytes(b.tcbStatus)) != keccak256("UpToDate")) return (false, "TCB status is not up to date");
        why = image(b.osImageHash);
        if (bytes(why).length > 0) return (false, why);
        if (!kmsAllowedAggregatedMrs[b.mrAggregated]) return (false, "Aggregated MR not allowed");
        if (!kmsAllowedDeviceIds[b.deviceId]) return (false, "KMS is not allowed to boot on this device");
        return (true, "");
    }

    function isAppAllowed(AppBootInfo calldata b) external view returns (bool, string memory) {
        string memory why = common(b);
        if (bytes(why).length > 0) return (false, why);
        if (!registeredApps[b.appId]) return (false, "App not registered");
        if (ext().blocked[b.appId]) return (false, "App is blocked");
        if (expired(ext().appNotAfter[b.appId])) return (false, "App authorization expired");
        why = image(b.osImageHash);
        if (bytes(why).length > 0) return (false, why);
        if (b.appId.code.length == 0) return (false, "App not deployed or invalid address");
        return IAppAuth(b.appId).isAppAllowed(b);
    }
}

contract App2 {
    mapping(bytes32 => bool) public allowedComposeHashes;
    bool private _upgradesDisabled;
    bool public allowAnyDevice;
    mapping(bytes32 => bool) public allowedDeviceIds;
    bool public requireTcbUpToDate;

    /// @custom:storage-location erc7201:dstack.storage.DstackAppExt
    struct Ext {
        uint64 epoch;
        address kms;
        mapping(address => bool) guardians;
        mapping(bytes32 => uint64) composeNotAfter;
    }

    function ext() internal pure returns (Ext storage e) {
        assembly {
            e.slot := 0x451ed33d735f5df28dda509c37110ec8f232f1d0ad223da5b44858684af11800
        }
    }

    function setComposeHash(bytes32 v, bool on) external { allowedComposeHashes[v] = on; }
    function setUpgradesDisabled(bool on) external { _upgradesDisabled = on; }
    function setAllowAnyDevice(bool on) external { allowAnyDevice = on; }
    function setDevice(bytes32 v, bool on) external { allowedDeviceIds[v] = on; }
    function setRequireTcb(bool on) external { requireTcbUpToDate = on; }
    function setComposeNotAfter(bytes32 v, uint64 t) external { ext().composeNotAfter[v] = t; ext().epoch++; }
    function setGuardian(address a, bool on) external { ext().guardians[a] = on; ext().epoch++; }

    /// @dev As in UUPSUpgradeable: what an app's owner can do to its proxy.
    function upgradeTo(address implementation) external {
        assembly {
            sstore(0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc, implementation)
        }
    }

    function isExpired(bytes32) internal view virtual returns (bool) { return false; }

    function isAppAllowed(AppBootInfo calldata b) external view returns (bool, string memory) {
        if (requireTcbUpToDate && keccak256(bytes(b.tcbStatus)) != keccak256("UpToDate")) {
            return (false, "TCB status is not up to date");
        }
        if (!allowedComposeHashes[b.composeHash]) return (false, "Compose hash not allowed");
        if (isExpired(b.composeHash)) return (false, "Compose hash expired");
        if (!allowAnyDevice && !allowedDeviceIds[b.deviceId]) return (false, "Device not allowed");
        return (true, "");
    }
}

contract App3 is App2 {
    function isExpired(bytes32 v) internal view override returns (bool) {
        uint64 t = ext().composeNotAfter[v];
        return t != 0 && block.timestamp > t;
    }
}
