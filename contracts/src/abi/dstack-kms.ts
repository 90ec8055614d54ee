import { type ParseAbi, parseAbi } from 'viem';
import { sharedSignatures } from './shared-signatures.ts';

/** Human-readable ABI of DstackKms v0.6 (chapter 60 section 2). */
const dstackKmsSignatures = [
  'struct KmsInfo { bytes k256Pubkey; bytes caPubkey; bytes quote; bytes eventlog; }',
  'function initialize(address initialOwner, address appImplementation)',
  'function setKmsInfo(KmsInfo info)',
  'function setKmsQuote(bytes quote)',
  'function setKmsEventlog(bytes eventlog)',
  'function setGatewayAppId(string appId)',
  'function registerApp(address appId)',
  'function setAppImplementation(address implementation)',
  'function deployAndRegisterApp(address initialOwner, bool disableUpgrades, bool allowAnyDevice, bytes32 initialDeviceId, bytes32 initialComposeHash) returns (address appId)',
  'function addKmsAggregatedMr(bytes32 mrAggregated)',
  'function removeKmsAggregatedMr(bytes32 mrAggregated)',
  'function addKmsDevice(bytes32 deviceId)',
  'function removeKmsDevice(bytes32 deviceId)',
  'function addOsImageHash(bytes32 osImageHash)',
  'function removeOsImageHash(bytes32 osImageHash)',
  'function isKmsAllowed(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)',
  'function isAppAllowed(AppBootInfo bootInfo) view returns (bool isAllowed, string reason)',
  'function kmsInfo() view returns (bytes k256Pubkey, bytes caPubkey, bytes quote, bytes eventlog)',
  'function gatewayAppId() view returns (string)',
  'function registeredApps(address appId) view returns (bool)',
  'function kmsAllowedAggregatedMrs(bytes32 mrAggregated) view returns (bool)',
  'function kmsAllowedDeviceIds(bytes32 deviceId) view returns (bool)',
  'function allowedOsImages(bytes32 osImageHash) view returns (bool)',
  'function appImplementation() view returns (address)',
  'event AppRegistered(address appId)',
  'event AppDeployedViaFactory(address indexed appId, address indexed deployer)',
  'event AppImplementationSet(address implementation)',
  'event GatewayAppIdSet(string gatewayAppId)',
  'event KmsInfoSet(bytes k256Pubkey)',
  'event KmsAggregatedMrAdded(bytes32 mrAggregated)',
  'event KmsAggregatedMrRemoved(bytes32 mrAggregated)',
  'event KmsDeviceAdded(bytes32 deviceId)',
  'event KmsDeviceRemoved(bytes32 deviceId)',
  'event OsImageHashAdded(bytes32 osImageHash)',
  'event OsImageHashRemoved(bytes32 osImageHash)',
] as const;

/** ABI of DstackKms, typed for viem. */
export const dstackKmsAbi: ParseAbi<readonly [...typeof dstackKmsSignatures, ...typeof sharedSignatures]> =
  parseAbi([...dstackKmsSignatures, ...sharedSignatures]);
