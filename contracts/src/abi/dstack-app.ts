import { type ParseAbi, parseAbi } from 'viem';
import { sharedSignatures } from './shared-signatures.ts';

/** Human-readable ABI of DstackApp: that of the 0.6 line, of its successor, and ours. */
const dstackAppSignatures = [
  'function initialize(address initialOwner, bool disableUpgrades, bool allowAnyDevice, bytes32 initialDeviceId, bytes32 initialComposeHash)',
  'function initialize(address initialOwner, bool disableUpgrades, bool requireTcbUpToDate, bool allowAnyDevice, bytes32 initialDeviceId, bytes32 initialComposeHash)',
  'function addComposeHashUntil(bytes32 composeHash, uint64 notAfter)',
  'function replaceComposeHash(bytes32 oldHash, bytes32 newHash, uint64 graceSeconds)',
  'function composeHashNotAfter(bytes32 composeHash) view returns (uint64)',
  'function addComposeHash(bytes32 composeHash)',
  'function removeComposeHash(bytes32 composeHash)',
  'function addDevice(bytes32 deviceId)',
  'function removeDevice(bytes32 deviceId)',
  'function setAllowAnyDevice(bool allowAny)',
  'function setRequireTcbUpToDate(bool required)',
  'function requireTcbUpToDate() view returns (bool)',
  'function setKms(address newKms)',
  'function kms() view returns (address)',
  'function checkBoot(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)',
  'function disableUpgrades()',
  'function upgradesDisabled() view returns (bool)',
  'function isAppAllowed(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)',
  'function allowedComposeHashes(bytes32 composeHash) view returns (bool)',
  'function allowAnyDevice() view returns (bool)',
  'function allowedDeviceIds(bytes32 deviceId) view returns (bool)',
  'event ComposeHashAdded(bytes32 composeHash)',
  'event ComposeHashRemoved(bytes32 composeHash)',
  'event DeviceAdded(bytes32 deviceId)',
  'event DeviceRemoved(bytes32 deviceId)',
  'event AllowAnyDeviceSet(bool allowAny)',
  'event UpgradesDisabled()',
  'event RequireTcbUpToDateSet(bool required)',
  'event KmsSet(address indexed previousKms, address indexed newKms)',
  'event ComposeHashExpirySet(bytes32 indexed composeHash, uint64 notAfter)',
  'event ComposeHashReplaced(bytes32 indexed oldHash, bytes32 indexed newHash, uint64 oldNotAfter)',
  'error ComposeHashNotAllowed(bytes32 composeHash)',
] as const;

/** ABI of DstackApp, typed for viem. */
export const dstackAppAbi: ParseAbi<readonly [...typeof dstackAppSignatures, ...typeof sharedSignatures]> =
  parseAbi([...dstackAppSignatures, ...sharedSignatures]);
