/** The calls of DstackKms and DstackApp that the command line makes. */
const BOOT_INFO =
  '(address appId, bytes32 composeHash, address instanceId, bytes32 deviceId, bytes32 mrAggregated, bytes32 mrSystem, bytes32 osImageHash, string tcbStatus, string[] advisoryIds)';

export const KMS_SIGNATURES: readonly string[] = [
  'function kmsInfo() view returns (bytes k256Pubkey, bytes caPubkey, bytes quote, bytes eventlog)',
  'function registeredApps(address appId) view returns (bool)',
  'function allowedOsImages(bytes32 osImageHash) view returns (bool)',
  `function isAppAllowed(${BOOT_INFO} bootInfo) view returns (bool isAllowed, string reason)`,
  'function deployAndRegisterApp(address initialOwner, bool disableUpgrades, bool allowAnyDevice, bytes32 initialDeviceId, bytes32 initialComposeHash) returns (address appId)',
  'event AppDeployedViaFactory(address indexed appId, address indexed deployer)',
];

export const APP_SIGNATURES: readonly string[] = [
  'function allowedComposeHashes(bytes32 composeHash) view returns (bool)',
  'function allowAnyDevice() view returns (bool)',
  'function owner() view returns (address)',
  'function addComposeHash(bytes32 composeHash)',
  'function removeComposeHash(bytes32 composeHash)',
];
