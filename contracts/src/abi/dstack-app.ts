import { type ParseAbi, parseAbi } from 'viem';
import { sharedSignatures } from './shared-signatures.ts';

/** Human-readable ABI of DstackApp v0.6 (chapter 60 section 3). */
const dstackAppSignatures = [
  'function initialize(address initialOwner, bool disableUpgrades, bool allowAnyDevice, bytes32 initialDeviceId, bytes32 initialComposeHash)',
  'function addComposeHash(bytes32 composeHash)',
  'function removeComposeHash(bytes32 composeHash)',
  'function addDevice(bytes32 deviceId)',
  'function removeDevice(bytes32 deviceId)',
  'function setAllowAnyDevice(bool allowAny)',
  'function disableUpgrades()',
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
] as const;

/** ABI of DstackApp, typed for viem. */
export const dstackAppAbi: ParseAbi<readonly [...typeof dstackAppSignatures, ...typeof sharedSignatures]> =
  parseAbi([...dstackAppSignatures, ...sharedSignatures]);
