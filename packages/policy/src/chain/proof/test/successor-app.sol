// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

// Decides as DstackApp of the 0.6 line's successor does, with its storage. Operators run that contract and name its
// code hash in the configuration; this stands for it. Not for use: anybody may call it.

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

contract SuccessorApp {
    bytes32 private constant IMPLEMENTATION_SLOT =
        0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;

    mapping(bytes32 => bool) public allowedComposeHashes;
    bool private _upgradesDisabled;
    bool public allowAnyDevice;
    mapping(bytes32 => bool) public allowedDeviceIds;
    bool public requireTcbUpToDate;

    function addComposeHash(bytes32 v) external { allowedComposeHashes[v] = true; }
    function removeComposeHash(bytes32 v) external { allowedComposeHashes[v] = false; }
    function addDevice(bytes32 v) external { allowedDeviceIds[v] = true; }
    function removeDevice(bytes32 v) external { allowedDeviceIds[v] = false; }
    function setAllowAnyDevice(bool on) external { allowAnyDevice = on; }
    function setRequireTcbUpToDate(bool on) external { requireTcbUpToDate = on; }

    function proxiableUUID() external pure returns (bytes32) { return IMPLEMENTATION_SLOT; }

    function upgradeToAndCall(address implementation, bytes calldata) external payable {
        bytes32 slot = IMPLEMENTATION_SLOT;
        assembly {
            sstore(slot, implementation)
        }
    }

    function isAppAllowed(AppBootInfo calldata b) external view returns (bool, string memory) {
        if (requireTcbUpToDate && keccak256(bytes(b.tcbStatus)) != keccak256("UpToDate")) {
            return (false, "TCB status is not up to date");
        }
        if (!allowedComposeHashes[b.composeHash]) return (false, "Compose hash not allowed");
        if (!allowAnyDevice && !allowedDeviceIds[b.deviceId]) return (false, "Device not allowed");
        return (true, "");
    }
}
