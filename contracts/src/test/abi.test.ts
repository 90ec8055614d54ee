/** Selectors, topics and ids that the original, its documentation and other tools use, against what the compiler made. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Abi,
  type AbiEvent,
  type AbiFunction,
  keccak256,
  toEventSelector,
  toFunctionSelector,
  toFunctionSignature,
} from 'viem';
import { formatAbiItem } from 'viem/utils';
import { beforeAll, describe, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { type Artifact, contractsDirectory, loadArtifact } from '../artifact.ts';
import { buildContracts } from '../build.ts';

const BOOT_INFO = '(address,bytes32,address,bytes32,bytes32,bytes32,bytes32,string,string[])';

const sharedFunctions = {
  '01ffc9a7': 'supportsInterface(bytes4) view',
  '8da5cb5b': 'owner() view',
  f2fde38b: 'transferOwnership(address)',
  '715018a6': 'renounceOwnership()',
  '4f1ef286': 'upgradeToAndCall(address,bytes) payable',
  '52d1902d': 'proxiableUUID() view',
  ad3cb1cc: 'UPGRADE_INTERFACE_VERSION() view',
  '1e079198': `isAppAllowed(${BOOT_INFO}) view`,
  // Documented, or of the 0.6 line's successor.
  '62f4ed90': 'isAuthorized(bytes32) view',
  '704b6c02': 'setAdmin(address)',
  f851a440: 'admin() view',
  '3659cfe6': 'upgradeTo(address)',
  '5c60da1b': 'implementation() view',
  '54fd4d50': 'version() view',
  '7e3804c7': 'startOwnershipTransfer(address)',
  '79ba5097': 'acceptOwnership()',
  e30c3978: 'pendingOwner() view',
  // Ours.
  a921d322: 'policyEpoch() view',
  '0c68ba21': 'isGuardian(address) view',
  '2b8a1c5a': 'setGuardian(address,bool)',
  ac9650d8: 'multicall(bytes[])',
  b216706c: 'announce(bytes)',
  '117b4705': 'retract(bytes32)',
  '99f4be3d': 'announcedAt(bytes32) view',
  '5d3dce64': 'setPolicyDelay(uint64)',
  '5fcfcadd': 'policyDelay() view',
  '9fff4602': 'policyDelaySince(uint64) view',
};

const kmsFunctions = {
  ...sharedFunctions,
  '485cc955': 'initialize(address,address)',
  '7d025352': 'setKmsInfo((bytes,bytes,bytes,bytes))',
  '18c1ecb2': 'setKmsQuote(bytes)',
  '736ede7a': 'setKmsEventlog(bytes)',
  '3971db27': 'setGatewayAppId(string)',
  '17a1d80f': 'registerApp(address)',
  '3ceaaa11': 'setAppImplementation(address)',
  '8618169d': 'deployAndRegisterApp(address,bool,bool,bytes32,bytes32)',
  '3e32d346': 'addKmsAggregatedMr(bytes32)',
  '2adee48d': 'removeKmsAggregatedMr(bytes32)',
  '4d5922a1': 'addKmsDevice(bytes32)',
  '9e6f3114': 'removeKmsDevice(bytes32)',
  '06a3ae96': 'addOsImageHash(bytes32)',
  '9425bac6': 'removeOsImageHash(bytes32)',
  e067ec9d: `isKmsAllowed(${BOOT_INFO}) view`,
  '09177063': 'kmsInfo() view',
  '95f51931': 'gatewayAppId() view',
  a6c4cce9: 'registeredApps(address) view',
  f6fe4f40: 'kmsAllowedAggregatedMrs(bytes32) view',
  '13eb9770': 'kmsAllowedDeviceIds(bytes32) view',
  '9a4e1d18': 'allowedOsImages(bytes32) view',
  '25a992da': 'appImplementation() view',
  '6d088bf9': 'addMeasurement(bytes32)',
  '110b9e37': 'removeMeasurement(bytes32)',
  '9cb9c31f': 'deployAndRegisterApp(address,bool,bool,bool,bytes32,bytes32)',
  '34806752': 'deployAndRegisterAppDeterministic(bytes32,address,bool,bool,bool,bytes32,bytes32)',
  '292e1c25': 'predictAppAddress(address,bytes32,address,bool,bool,bool,bytes32,bytes32) view',
  '8456cb59': 'pause()',
  '3f4ba83a': 'unpause()',
  '5c975abb': 'paused() view',
  '5044a27c': 'blockApp(address)',
  f3abda61: 'unblockApp(address)',
  '2bcfcec6': 'blockedApps(address) view',
  '3176a4cf': 'addOsImageHashUntil(bytes32,uint64)',
  e83c939f: 'osImageNotAfter(bytes32) view',
  a86ca262: 'setAppPolicyExpiry(address,uint64)',
  '34504dbf': 'appNotAfter(address) view',
  '1c86c450': 'denyAdvisory(string)',
  '6aa62591': 'allowAdvisory(string)',
  '86e2ce70': 'advisoryDenied(bytes32) view',
};

const appFunctions = {
  ...sharedFunctions,
  '187515ca': 'initialize(address,bool,bool,bytes32,bytes32)',
  dfc77223: 'addComposeHash(bytes32)',
  '67b3f22c': 'removeComposeHash(bytes32)',
  '2a819728': 'addDevice(bytes32)',
  '1d266200': 'removeDevice(bytes32)',
  '7c4beeb8': 'setAllowAnyDevice(bool)',
  ec669036: 'disableUpgrades()',
  '2f6622e5': 'allowedComposeHashes(bytes32) view',
  '3440a16a': 'allowAnyDevice() view',
  bf8b211b: 'allowedDeviceIds(bytes32) view',
  '9ed28193': 'initialize(address,bool,bool,bool,bytes32,bytes32)',
  '0aa58c83': 'requireTcbUpToDate() view',
  '6e4c7422': 'setRequireTcbUpToDate(bool)',
  '83f700a1': 'setKms(address)',
  '631c3073': 'kms() view',
  f9b278c0: 'upgradesDisabled() view',
  '93c19625': 'addComposeHashUntil(bytes32,uint64)',
  cbe428c8: 'composeHashNotAfter(bytes32) view',
  '38ea631f': 'replaceComposeHash(bytes32,bytes32,uint64)',
  '462de4ca': `checkBoot(${BOOT_INFO}) view`,
};

/** Topic, then the event with `indexed` where it is. */
const sharedEvents = {
  '8be0079c531659141344cd1fd0a4f28419497f9722a3daafe3b4186f6b6457e0':
    'OwnershipTransferred(address indexed,address indexed)',
  bc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b: 'Upgraded(address indexed)',
  c7f505b2f371ae2175ee4913f4499e1f2633a7b5936321eed1cdaeb6115181d2: 'Initialized(uint64)',
  '38d16b8cac22d99fc7c124b9cd0de2d3fa1faef420bfe791d8c362d765e22700':
    'OwnershipTransferStarted(address indexed,address indexed)',
  '341d3bc64e32172fc5bcf27b0f7f69dc5adc19af64b7aa1dee361e5883c32375':
    'PolicyChanged(address indexed,bytes32 indexed,bytes32 indexed,bool)',
  c4459d655e1efe034a75446f1f4db087f75d23bdfabccffafa6384cdb23a1544: 'GuardianSet(address indexed,bool)',
  '4c09928a4a4937d961178f245531ba3edb6b8482b241b729d657502e925e16d9': 'CallAnnounced(bytes32 indexed,bytes)',
  '89e3ae8bba03bd0c27b8ec329dbdbfe072bd2f6665444bc8666b8ecab48f43b7':
    'CallRetracted(bytes32 indexed,address indexed)',
  '3b060d7405cffb9420f3019db3730fa2a3472cc61207b8092739ecbf86983c5b': 'PolicyDelaySet(uint64)',
};

const kmsEvents = {
  ...sharedEvents,
  '0d540ad8f39e07d19909687352b9fa017405d93c91a6760981fbae9cf28bfef7': 'AppRegistered(address)',
  fd86d7f6962eba3b7a3bf9129c06c0b2f885e1c61ef2c9f0dbb856be0deefdee:
    'AppDeployedViaFactory(address indexed,address indexed)',
  '08bb433f12b5fd81d2d5e0deeb3b4d28371781ddbd80e9d053e7468d2b1aa82d': 'AppImplementationSet(address)',
  '5b2b64f770ea5266055ebd3ebf205ef06cbfa738e62684edf0e28356e34acf06': 'GatewayAppIdSet(string)',
  '77cdad119a452bbd96c45635758fc4af8a6bde3deaccf3fada634ddf9a162706': 'KmsInfoSet(bytes)',
  '68615a0b92795750b3d180ff73429e1291d225e449eee954a567b91104fd9837': 'KmsAggregatedMrAdded(bytes32)',
  '54cd662e41eec7ddf0f32f034b2533e481b471dd3ea978222d609ec8fffb1bb0': 'KmsAggregatedMrRemoved(bytes32)',
  f2b290637b1193e12eb38ab32b986303639b1687cc2cd1e25f993e6eae2f4041: 'KmsDeviceAdded(bytes32)',
  '1a9888a45e3df8b7e6bb3090747d598d2a0d78e61388161a90799f54df8f4434': 'KmsDeviceRemoved(bytes32)',
  '4911843506849c85a5ca6e6e2c01eed2d3ab86baba619517a2aad9d5ab2aeff2': 'OsImageHashAdded(bytes32)',
  '99b3cee95daf3138d0c982299cd0264f5b7a61aa629b42b92f3ec8966aa7f6fe': 'OsImageHashRemoved(bytes32)',
  f40466a3123cfb449bf809369b0c01a2baecf66bdb40a872965a4adcdb126bc0:
    'OsImageExpirySet(bytes32 indexed,uint64)',
  '774957bb8fa5b42c15f1b6160486a71feaaa65118565fb8280d18f6cf634cb5b':
    'AppPolicyExpirySet(address indexed,uint64)',
  '13d8ff31c184be585f23c4e6051814489ae3827d933564ecefd12611183dd372':
    'AppBlocked(address indexed,address indexed)',
  c2a8efb0a1234bd40dffe4022f9c72f669a9bb8cf92c23a04825e8c93b129c1b:
    'AppUnblocked(address indexed,address indexed)',
  '34ad20d08fcbed35902a1f195cec8e5faec5ecbe074c8482bd5e221e6517433d':
    'AdvisoryDenied(bytes32 indexed,string)',
  b45fd73f2fabce3a39221d1f0876b879357945c1d4c815a19d7df9cdecb4ef1b: 'AdvisoryAllowed(bytes32 indexed,string)',
  '62e78cea01bee320cd4e420270b5ea74000d11b0c9f74754ebdbfc544b05a258': 'Paused(address)',
  '5db9ee0a495bf2e6ff9c91a7834c1ba4fdd244a5e8aa4e537bd38aeae4b073aa': 'Unpaused(address)',
};

const appEvents = {
  ...sharedEvents,
  fecb34306dd9d8b785b54d65489d06afc8822a0893ddacedff40c50a4942d0af: 'ComposeHashAdded(bytes32)',
  '755b79bd4b0eeab344d032284a99003b2ddc018b646752ac72d681593a6e8947': 'ComposeHashRemoved(bytes32)',
  '67fc71ab96fe3fa3c6f78e9a00e635d591b7333ce611c0380bc577aac702243b': 'DeviceAdded(bytes32)',
  e0862975ac517b0478d308012afabc4bc37c23874a18144d7f2dfb852ff95c2c: 'DeviceRemoved(bytes32)',
  bb2cdb6c7b362202d40373f87bc4788301cca658f91711ac1662e1ad2cba4a20: 'AllowAnyDeviceSet(bool)',
  '0e5daa943fcd7e7182d0e893d180695c2ea9f6f1b4a1c5432faf14cf17b774e8': 'UpgradesDisabled()',
  afae60561b2481a349b45b3a47357f70eef6ae67e5b6e1749d74de7f19a25aa1: 'RequireTcbUpToDateSet(bool)',
  '24a81abbd3d91e0cc5f18e6736782aa0f17011651f8a15888967ae37b62b28f1':
    'KmsSet(address indexed,address indexed)',
  d4cd5e12c695464cc3909f7d7b649cd88667c7a3b94761960823838b7ad6df18:
    'ComposeHashExpirySet(bytes32 indexed,uint64)',
  '4331bba38927b70dc0bd578e880c179cddb817a921e932a9d2b349b43164d146':
    'ComposeHashReplaced(bytes32 indexed,bytes32 indexed,uint64)',
};

/** Custom errors that are reachable: OpenZeppelin's, then ours. */
const errors = {
  '118cdaa7': 'OwnableUnauthorizedAccount(address)',
  '1e4fbdf7': 'OwnableInvalidOwner(address)',
  f92ee8a9: 'InvalidInitialization()',
  d7e6bcf8: 'NotInitializing()',
  '4c9c8ce3': 'ERC1967InvalidImplementation(address)',
  b398979f: 'ERC1967NonPayable()',
  e07c8dba: 'UUPSUnauthorizedCallContext()',
  aa1d49a4: 'UUPSUnsupportedProxiableUUID(bytes32)',
  '9996b315': 'AddressEmptyCode(address)',
  d6bda275: 'FailedCall()',
  '89051165': 'RenounceDisabled()',
  '6b1883f3': 'NotOwnerOrGuardian(address)',
  '69e9d3ba': 'InvalidMeasurement()',
  f4bd1b9a: 'NotAnnounced(bytes32,uint64)',
  '1f28a1b6': 'PolicyDelayTooLong(uint64,uint64)',
};

const appErrors = { ...errors, ce9f8372: 'ComposeHashNotAllowed(bytes32)' };

function functionsOf(abi: Abi): Record<string, string> {
  const functions = abi.filter((item): item is AbiFunction => item.type === 'function');
  return Object.fromEntries(
    functions.map((item) => {
      const mutability = ['pure', 'view'].includes(item.stateMutability) ? 'view' : item.stateMutability;
      const suffix = mutability === 'nonpayable' ? '' : ` ${mutability}`;
      return [toFunctionSelector(item).slice(2), `${toFunctionSignature(item)}${suffix}`];
    }),
  );
}

function eventsOf(abi: Abi): Record<string, string> {
  const events = abi.filter((item): item is AbiEvent => item.type === 'event');
  return Object.fromEntries(
    events.map((item) => {
      const inputs = item.inputs.map(({ type, indexed }) => `${type}${indexed ? ' indexed' : ''}`);
      return [toEventSelector(item).slice(2), `${item.name}(${inputs.join(',')})`];
    }),
  );
}

function errorsOf(abi: Abi): Record<string, string> {
  return Object.fromEntries(
    abi
      .filter((item) => item.type === 'error')
      .map((item) => {
        const signature = formatAbiItem(item);
        return [toFunctionSelector(signature).slice(2), signature];
      }),
  );
}

let kms: Artifact;
let app: Artifact;

beforeAll(async () => {
  await buildContracts();
  kms = loadArtifact('DstackKms');
  app = loadArtifact('DstackApp');
});

describe('DstackKms', () => {
  test('has exactly the 30 functions of v0.6 and the additions', () => {
    expect(functionsOf(kms.abi)).toEqual(kmsFunctions);
    expect(Object.keys(kmsFunctions)).toHaveLength(30 + 13 + 24);
  });
  test('has exactly these events, with their indexing', () => {
    expect(eventsOf(kms.abi)).toEqual(kmsEvents);
  });
  test('has exactly the reachable errors', () => {
    expect(errorsOf(kms.abi)).toEqual(errors);
  });
  test('typed ABI says the same', () => {
    expect(functionsOf(dstackKmsAbi as Abi)).toEqual(kmsFunctions);
    expect(eventsOf(dstackKmsAbi as Abi)).toEqual(kmsEvents);
    expect(errorsOf(dstackKmsAbi as Abi)).toEqual(errors);
  });
  test('kmsInfo has four outputs, not a tuple', () => {
    const info = kms.abi.find((item) => item.type === 'function' && item.name === 'kmsInfo') as AbiFunction;
    expect(info.outputs.map(({ name, type }) => `${type} ${name}`)).toEqual([
      'bytes k256Pubkey',
      'bytes caPubkey',
      'bytes quote',
      'bytes eventlog',
    ]);
  });
  // EIP-170 allows 24,576 bytes, EIP-3860 twice that for creation.
  test.each([
    ['DstackKms', 22_500],
    ['DstackApp', 14_500],
    ['DstackTimelock', 8_500],
    ['DstackAttestationRegistry', 3_500],
  ] as const)('%s fits the contract size limit with room to spare', (name, limit) => {
    const { bytecode, deployedBytecode } = loadArtifact(name);
    expect(deployedBytecode.length / 2 - 1).toBeLessThan(limit);
    expect(bytecode.length / 2 - 1).toBeLessThan(2 * 24_576);
  });
});

describe('DstackApp', () => {
  test('has exactly the 18 functions of v0.6 and the additions', () => {
    expect(functionsOf(app.abi)).toEqual(appFunctions);
    expect(Object.keys(appFunctions)).toHaveLength(18 + 13 + 16);
  });
  test('has exactly these events, with their indexing', () => {
    expect(eventsOf(app.abi)).toEqual(appEvents);
  });
  test('typed ABI says the same', () => {
    expect(functionsOf(dstackAppAbi as Abi)).toEqual(appFunctions);
    expect(eventsOf(dstackAppAbi as Abi)).toEqual(appEvents);
    expect(errorsOf(dstackAppAbi as Abi)).toEqual(appErrors);
    expect(errorsOf(app.abi)).toEqual(appErrors);
  });
});

test('the contracts know DstackTimelock by the hash of the code that it has now', () => {
  const source = readFileSync(join(contractsDirectory, 'contracts/PolicyDelay.sol'), 'utf8');
  expect(/TIMELOCK_CODE = (0x\w+);/.exec(source)?.[1]).toBe(
    keccak256(loadArtifact('DstackTimelock').deployedBytecode),
  );
});

describe('boot information', () => {
  test('has the field order of the 0.6 line', () => {
    const item = kms.abi.find((entry) => entry.type === 'function' && entry.name === 'isAppAllowed');
    const [tuple] = (item as AbiFunction).inputs as unknown as [
      { components: { name: string; type: string }[] },
    ];
    expect(tuple.components.map(({ name, type }) => `${name} ${type}`)).toEqual([
      'appId address',
      'composeHash bytes32',
      'instanceId address',
      'deviceId bytes32',
      'mrAggregated bytes32',
      'mrSystem bytes32',
      'osImageHash bytes32',
      'tcbStatus string',
      'advisoryIds string[]',
    ]);
  });
});

describe('ERC-165 ids', () => {
  const idOf = (name: 'IAppAuth' | 'IAppAuthBasicManagement' | 'IPolicyDelay' | 'IPolicyEpoch'): string => {
    const own = Object.keys(functionsOf(loadArtifact(name).abi)).filter((id) => id !== '01ffc9a7');
    const id = own.reduce((xor, next) => xor ^ BigInt(`0x${next}`), 0n);
    return id.toString(16).padStart(8, '0');
  };
  test('IAppAuth is the selector of isAppAllowed', () => expect(idOf('IAppAuth')).toBe('1e079198'));
  test('IPolicyEpoch is the selector of policyEpoch', () => expect(idOf('IPolicyEpoch')).toBe('a921d322'));
  test('IPolicyDelay is the xor of its two', () => expect(idOf('IPolicyDelay')).toBe('c0308cdf'));
  test('IAppAuthBasicManagement is the xor of its four', () => {
    expect(idOf('IAppAuthBasicManagement')).toBe('8fd37527');
  });
});
