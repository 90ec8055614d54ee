/** Parts of the ABI that DstackKms and DstackApp share (chapter 60 sections 1.1, 2, 3). */

/** AppBootInfo, whose field order is part of the ABI; then what OpenZeppelin 5 brings: ownership, ERC-165, UUPS. */
export const sharedSignatures = [
  'struct AppBootInfo { address appId; bytes32 composeHash; address instanceId; bytes32 deviceId; bytes32 mrAggregated; bytes32 mrSystem; bytes32 osImageHash; string tcbStatus; string[] advisoryIds; }',
  'function owner() view returns (address)',
  'function transferOwnership(address newOwner)',
  'function renounceOwnership()',
  'function supportsInterface(bytes4 interfaceId) view returns (bool)',
  'function upgradeToAndCall(address newImplementation, bytes data) payable',
  'function proxiableUUID() view returns (bytes32)',
  'function UPGRADE_INTERFACE_VERSION() view returns (string)',
  'event OwnershipTransferred(address indexed previousOwner, address indexed newOwner)',
  'event Upgraded(address indexed implementation)',
  'event Initialized(uint64 version)',
  'error OwnableUnauthorizedAccount(address account)',
  'error OwnableInvalidOwner(address owner)',
  'error InvalidInitialization()',
  'error NotInitializing()',
  'error ERC1967InvalidImplementation(address implementation)',
  'error ERC1967NonPayable()',
  'error UUPSUnauthorizedCallContext()',
  'error UUPSUnsupportedProxiableUUID(bytes32 slot)',
  'error AddressEmptyCode(address target)',
  'error FailedCall()',
] as const;
