// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {KmsStorage} from "./KmsStorage.sol";

/// @title Identity of a KMS and its gateway
/// @notice The owner publishes the root keys and evidence of the KMS, and names the gateway that guests trust.
abstract contract KmsIdentity is KmsStorage {
    /// @notice Guests trust another gateway.
    /// @param gatewayAppId its app id
    event GatewayAppIdSet(string gatewayAppId);

    /// @notice The identity of the KMS was published.
    /// @param k256Pubkey its root key
    event KmsInfoSet(bytes k256Pubkey);

    /// @notice Publish the identity of the KMS; replaces all four parts.
    /// @param info the new parts
    function setKmsInfo(KmsInfo calldata info) external onlyOwner {
        kmsInfo = info;
        emit KmsInfoSet(info.k256Pubkey);
        _changed(keccak256("kms-info"), keccak256(abi.encode(info)), true);
    }

    /// @notice Replace the published evidence.
    /// @param quote the new evidence
    function setKmsQuote(bytes calldata quote) external onlyOwner {
        kmsInfo.quote = quote;
        _changed(keccak256("kms-quote"), keccak256(quote), true);
    }

    /// @notice Replace the published event log.
    /// @param eventlog the new event log
    function setKmsEventlog(bytes calldata eventlog) external onlyOwner {
        kmsInfo.eventlog = eventlog;
        _changed(keccak256("kms-eventlog"), keccak256(eventlog), true);
    }

    /// @notice Name the gateway that guests trust.
    /// @param appId its app id
    function setGatewayAppId(string calldata appId) external loosens {
        gatewayAppId = appId;
        emit GatewayAppIdSet(appId);
        _changed(keccak256("gateway-app-id"), keccak256(bytes(appId)), true);
    }
}
