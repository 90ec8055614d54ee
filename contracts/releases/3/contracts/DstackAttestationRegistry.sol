// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.22;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";

/// @title Public log of attestations
/// @notice Anybody publishes evidence of a KMS or an app, by hash and by place; verifiers say whether it holds.
/// Nothing here decides about keys.
contract DstackAttestationRegistry is AccessControl {
    /// @notice Role of those whose word `attest` records.
    bytes32 public constant VERIFIER_ROLE = keccak256("VERIFIER_ROLE");

    /// @dev Longest place and longest note, in bytes: readers of the log have bounds.
    uint256 private constant MAX_TEXT = 1024;

    /// @notice Who published what has this id; zero if nobody did.
    mapping(bytes32 id => address) public publisherOf;

    /// @notice Evidence was published.
    /// @param id of the publication
    /// @param subject whose evidence it is: an app id padded on the left, or the hash of a KMS root key
    /// @param publisher who published it; says nothing about who produced it
    /// @param quoteHash SHA-256 of the evidence
    /// @param mrAggregated aggregated measurement that it claims
    /// @param osImageHash OS image that it claims
    /// @param uri where the evidence can be fetched
    event AttestationPublished(
        bytes32 indexed id,
        bytes32 indexed subject,
        address indexed publisher,
        bytes32 quoteHash,
        bytes32 mrAggregated,
        bytes32 osImageHash,
        string uri
    );

    /// @notice A verifier judged published evidence. A later judgement of the same verifier replaces this one.
    /// @param id of the publication
    /// @param verifier who judged
    /// @param ok true if the evidence holds and says what was claimed
    /// @param note the verifier's reason or report
    event AttestationVerified(bytes32 indexed id, address indexed verifier, bool ok, string note);

    /// @notice The same publisher has published the same thing before.
    /// @param id of the publication
    error AlreadyPublished(bytes32 id);

    /// @notice Nothing was published under this id.
    /// @param id that was given
    error UnknownAttestation(bytes32 id);

    /// @notice A place or note is too long for the log.
    /// @param length in bytes
    error TextTooLong(uint256 length);

    /// @param admin who names verifiers
    constructor(address admin) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @notice Publish evidence.
    /// @param subject whose evidence it is
    /// @param quoteHash SHA-256 of the evidence
    /// @param mrAggregated aggregated measurement that it claims
    /// @param osImageHash OS image that it claims
    /// @param uri where the evidence can be fetched, at most 1024 bytes
    /// @return id of the publication
    function publish(
        bytes32 subject,
        bytes32 quoteHash,
        bytes32 mrAggregated,
        bytes32 osImageHash,
        string calldata uri
    ) external returns (bytes32 id) {
        _requireShort(uri);
        id = keccak256(abi.encode(msg.sender, subject, quoteHash, mrAggregated, osImageHash, uri));
        if (publisherOf[id] != address(0)) revert AlreadyPublished(id);
        publisherOf[id] = msg.sender;
        emit AttestationPublished(id, subject, msg.sender, quoteHash, mrAggregated, osImageHash, uri);
    }

    /// @notice Judge published evidence.
    /// @param id of the publication
    /// @param ok true if the evidence holds and says what was claimed
    /// @param note reason or report, at most 1024 bytes
    function attest(bytes32 id, bool ok, string calldata note) external onlyRole(VERIFIER_ROLE) {
        _requireShort(note);
        if (publisherOf[id] == address(0)) revert UnknownAttestation(id);
        emit AttestationVerified(id, msg.sender, ok, note);
    }

    function _requireShort(string calldata text) private pure {
        if (bytes(text).length > MAX_TEXT) revert TextTooLong(bytes(text).length);
    }
}
