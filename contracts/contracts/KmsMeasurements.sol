// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {KmsStorage} from "./KmsStorage.sol";

/// @title Allowed OS images, KMS measurements and KMS devices
/// @notice The owner adds; the owner and guardians take away.
abstract contract KmsMeasurements is KmsStorage {
    /// @notice A KMS measurement was allowed.
    /// @param mrAggregated which
    event KmsAggregatedMrAdded(bytes32 mrAggregated);

    /// @notice A KMS measurement was taken away.
    /// @param mrAggregated which
    event KmsAggregatedMrRemoved(bytes32 mrAggregated);

    /// @notice A device was allowed for the KMS.
    /// @param deviceId which
    event KmsDeviceAdded(bytes32 deviceId);

    /// @notice A device was taken away from the KMS.
    /// @param deviceId which
    event KmsDeviceRemoved(bytes32 deviceId);

    /// @notice An OS image was allowed.
    /// @param osImageHash which
    event OsImageHashAdded(bytes32 osImageHash);

    /// @notice An OS image was taken away.
    /// @param osImageHash which
    event OsImageHashRemoved(bytes32 osImageHash);

    /// @notice An OS image got an end, or lost it.
    /// @param osImageHash which
    /// @param notAfter last second at which it may run, unix time; 0 for no end
    event OsImageExpirySet(bytes32 indexed osImageHash, uint64 notAfter);

    /// @notice Allow a KMS measurement.
    /// @param mrAggregated which
    function addKmsAggregatedMr(bytes32 mrAggregated) external loosens {
        _requireMeasurement(mrAggregated);
        kmsAllowedAggregatedMrs[mrAggregated] = true;
        emit KmsAggregatedMrAdded(mrAggregated);
        _changed(keccak256("kms-aggregated-mr"), mrAggregated, true);
    }

    /// @notice Stop allowing a KMS measurement.
    /// @param mrAggregated which
    function removeKmsAggregatedMr(bytes32 mrAggregated) external onlyOwnerOrGuardian {
        kmsAllowedAggregatedMrs[mrAggregated] = false;
        emit KmsAggregatedMrRemoved(mrAggregated);
        _changed(keccak256("kms-aggregated-mr"), mrAggregated, false);
    }

    /// @notice Allow a device for the KMS.
    /// @param deviceId which
    function addKmsDevice(bytes32 deviceId) external loosens {
        _requireMeasurement(deviceId);
        kmsAllowedDeviceIds[deviceId] = true;
        emit KmsDeviceAdded(deviceId);
        _changed(keccak256("kms-device"), deviceId, true);
    }

    /// @notice Stop allowing a device for the KMS.
    /// @param deviceId which
    function removeKmsDevice(bytes32 deviceId) external onlyOwnerOrGuardian {
        kmsAllowedDeviceIds[deviceId] = false;
        emit KmsDeviceRemoved(deviceId);
        _changed(keccak256("kms-device"), deviceId, false);
    }

    /// @notice Allow an OS image; takes away an end that it had.
    /// @param osImageHash which
    function addOsImageHash(bytes32 osImageHash) external loosens {
        _addOsImage(osImageHash, 0);
    }

    /// @notice The same as `addOsImageHash`.
    /// @param measurement an OS image hash
    function addMeasurement(bytes32 measurement) external loosens {
        _addOsImage(measurement, 0);
    }

    /// @notice Allow an OS image until a time.
    /// @param osImageHash which
    /// @param notAfter last second at which it may run, unix time; 0 for no end
    function addOsImageHashUntil(bytes32 osImageHash, uint64 notAfter) external loosens {
        _addOsImage(osImageHash, notAfter);
    }

    /// @notice Stop allowing an OS image.
    /// @param osImageHash which
    function removeOsImageHash(bytes32 osImageHash) external onlyOwnerOrGuardian {
        _removeOsImage(osImageHash);
    }

    /// @notice The same as `removeOsImageHash`.
    /// @param measurement an OS image hash
    function removeMeasurement(bytes32 measurement) external onlyOwnerOrGuardian {
        _removeOsImage(measurement);
    }

    /// @notice Is this an allowed OS image or an allowed KMS measurement? For people; decisions are
    /// `isKmsAllowed` and `isAppAllowed`.
    /// @param measurement which
    /// @return true if it is, and an image has not expired
    function isAuthorized(bytes32 measurement) external view returns (bool) {
        return kmsAllowedAggregatedMrs[measurement]
            || (allowedOsImages[measurement] && !_isExpired(_ext().osNotAfter[measurement]));
    }

    /// @notice End of an OS image.
    /// @param osImageHash which
    /// @return last second at which it may run, unix time; 0 for no end
    function osImageNotAfter(bytes32 osImageHash) external view returns (uint64) {
        return _ext().osNotAfter[osImageHash];
    }

    function _imageDenial(bytes32 osImageHash) internal view returns (string memory) {
        if (!allowedOsImages[osImageHash]) return "OS image is not allowed";
        if (_isExpired(_ext().osNotAfter[osImageHash])) return "OS image authorization expired";
        return "";
    }

    function _addOsImage(bytes32 osImageHash, uint64 notAfter) private {
        _requireMeasurement(osImageHash);
        allowedOsImages[osImageHash] = true;
        emit OsImageHashAdded(osImageHash);
        _changed(keccak256("os-image"), osImageHash, true);
        if (_ext().osNotAfter[osImageHash] != notAfter) _setOsImageExpiry(osImageHash, notAfter);
    }

    function _removeOsImage(bytes32 osImageHash) private {
        allowedOsImages[osImageHash] = false;
        emit OsImageHashRemoved(osImageHash);
        _changed(keccak256("os-image"), osImageHash, false);
        if (_ext().osNotAfter[osImageHash] != 0) _setOsImageExpiry(osImageHash, 0);
    }

    function _setOsImageExpiry(bytes32 osImageHash, uint64 notAfter) private {
        _ext().osNotAfter[osImageHash] = notAfter;
        emit OsImageExpirySet(osImageHash, notAfter);
        _changed(keccak256("os-image-expiry"), osImageHash, notAfter != 0);
    }
}
