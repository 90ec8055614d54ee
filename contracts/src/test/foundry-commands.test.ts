/** Every documented command of Foundry against our contracts, with the answer that the documentation gives. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type Address, zeroAddress } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadArtifact } from '../artifact.ts';
import { deployKmsImplementation } from '../deploy.ts';
import { foundryProgram } from '../foundry-program.ts';
import { deployCode } from '../transact.ts';
import { startTestChain, type TestChain } from './test-chain.ts';

const IMPLEMENTATION_SLOT = '0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc';
const DELAY = 3_600;
const h = (digit: string): string => `0x${digit.repeat(64)}`;

let chain: TestChain;
let timelock: Address;
let nextImplementation: Address;
beforeAll(async () => {
  chain = await startTestChain();
  const { owner } = chain;
  const me = owner.account.address;
  const { abi, bytecode } = loadArtifact('DstackTimelock');
  timelock = (await deployCode(owner, abi, bytecode, [BigInt(DELAY), [me], [me], zeroAddress, 0n])).address;
  nextImplementation = await deployKmsImplementation(owner);
}, 120_000);
afterAll(() => chain?.anvil.stop());

/** Output of `cast`, or what it said when it failed. */
async function cast(words: readonly string[]): Promise<string> {
  const options = {
    timeout: 60_000,
    env: {
      ...process.env,
      ETH_RPC_URL: chain.anvil.rpcUrl,
      NO_COLOR: '1',
      FOUNDRY_DISABLE_NIGHTLY_WARNING: '1',
    },
  };
  return await promisify(execFile)(foundryProgram('cast'), words, options).then(
    ({ stdout }) => stdout.trim(),
    (error: { stderr?: string }) => `failed: ${error.stderr}`,
  );
}

/** Words of a command, where `$KMS` and the like stand for what they are on this chain. */
function filledIn(command: string): string[] {
  const [first, second] = chain.anvil.accounts;
  const values: Record<string, string> = {
    ...{ KMS: chain.kms, APP: chain.app, TIMELOCK: timelock, NEXT: nextImplementation },
    ...{ OWNER: first!.address, STRANGER: second!.address },
    ...{ PRIVATE_KEY: first!.privateKey, STRANGER_KEY: second!.privateKey },
    ...{ ZERO: zeroAddress, ZERO32: h('0'), SALT: h('7'), IMAGE: h('4'), COMPOSE: h('5'), OTHER: h('6') },
    ADD: `0x6d088bf9${'6'.repeat(64)}`,
    ID: operation ?? '',
  };
  return (command.match(/"[^"]*"|\S+/g) ?? []).map((word) =>
    word.replaceAll('"', '').replace(/\$(\w+)/g, (_, name: string) => values[name] ?? `no ${name}`),
  );
}

let operation: string | undefined;
const sent = /status\s+1 \(success\)/;
const OPERATION = '(address,uint256,bytes,bytes32,bytes32)';
const SEND = '--private-key $PRIVATE_KEY';

/** In this order: each changes what the next one finds. */
const commands: [command: string, answer: string | RegExp][] = [
  ['call $KMS "owner()(address)"', '$OWNER'],
  ['call $KMS "admin()(address)"', '$OWNER'],
  ['call $APP "owner()(address)"', '$OWNER'],
  ['call $KMS "isAuthorized(bytes32)(bool)" $IMAGE', 'false'],
  [
    'send $KMS "addMeasurement(bytes32)" $IMAGE --private-key $STRANGER_KEY',
    /failed: .*(OwnableUnauthorizedAccount|118cdaa7)/s,
  ],
  [`send $KMS "addMeasurement(bytes32)" $IMAGE ${SEND}`, sent],
  ['call $KMS "isAuthorized(bytes32)(bool)" $IMAGE', 'true'],
  ['call $KMS "allowedOsImages(bytes32)(bool)" $IMAGE', 'true'],
  [
    'logs --from-block 0 --address $KMS "OsImageHashAdded(bytes32)"',
    /0x4911843506849c85a5ca6e6e2c01eed2d3ab86baba619517a2aad9d5ab2aeff2/,
  ],
  [`send $KMS "removeMeasurement(bytes32)" $IMAGE ${SEND}`, sent],
  ['call $KMS "isAuthorized(bytes32)(bool)" $IMAGE', 'false'],
  [`send $KMS "addOsImageHash(bytes32)" $IMAGE ${SEND}`, sent],
  ['call $KMS "isAuthorized(bytes32)(bool)" $IMAGE', 'true'],
  [`send $KMS "removeOsImageHash(bytes32)" $IMAGE ${SEND}`, sent],
  ['call $KMS "isAuthorized(bytes32)(bool)" $IMAGE', 'false'],
  [`send $APP "addComposeHash(bytes32)" $COMPOSE ${SEND}`, sent],
  ['call $APP "isAuthorized(bytes32)(bool)" $COMPOSE', 'true'],
  ['call $APP "allowedComposeHashes(bytes32)(bool)" $COMPOSE', 'true'],
  [`send $APP "removeComposeHash(bytes32)" $COMPOSE ${SEND}`, sent],
  ['call $APP "isAuthorized(bytes32)(bool)" $COMPOSE', 'false'],
  ['call $KMS "registeredApps(address)(bool)" $APP', 'true'],
  ['call $APP "kms()(address)"', '$KMS'],
  [`send $APP "setKms(address)" $ZERO ${SEND}`, sent],
  ['call $APP "kms()(address)"', '$ZERO'],
  [`send $APP "setKms(address)" $KMS ${SEND}`, sent],
  [`send $KMS "upgradeTo(address)" $NEXT ${SEND}`, sent],
  ['call $KMS "implementation()(address)"', '$NEXT'],
  [`storage $KMS ${IMPLEMENTATION_SLOT}`, /$NEXT/],
  ['calldata "addMeasurement(bytes32)" $OTHER', '$ADD'],
  ['abi-encode "f(bytes32)" $OTHER', '$OTHER'],
  ['keccak "op-1"', '0x79f5830eba0d96f926d2bb58f16500e4073cd5b8a6c64e0bc9b340abffd38e4c'],
  ['sig "isAuthorized(bytes32)"', '0x62f4ed90'],
  [`send $KMS "setAdmin(address)" $TIMELOCK ${SEND}`, sent],
  ['call $KMS "owner()(address)"', '$TIMELOCK'],
  ['call $TIMELOCK "getMinDelay()(uint256)"', /^3600\b/],
  [
    'call $TIMELOCK "hasRole(bytes32,address)(bool)" 0xb09aa5aeb3702cfd50b6b62bc4532604938f21248a27a1d5ca736082b6819cc1 $OWNER',
    'true',
  ],
  ['call $TIMELOCK "hasRole(bytes32,address)(bool)" $ZERO32 $OWNER', 'false'],
  [`call $TIMELOCK "hashOperation${OPERATION}(bytes32)" $KMS 0 $ADD $ZERO32 $SALT`, /^0x[0-9a-f]{64}$/],
  [
    `send $TIMELOCK "schedule(address,uint256,bytes,bytes32,bytes32,uint256)" $KMS 0 $ADD $ZERO32 $SALT 60 ${SEND}`,
    /failed: .*(TimelockInsufficientDelay|54336609)/s,
  ],
  [
    `send $TIMELOCK "schedule(address,uint256,bytes,bytes32,bytes32,uint256)" $KMS 0 $ADD $ZERO32 $SALT ${DELAY} ${SEND}`,
    sent,
  ],
  [
    `send $TIMELOCK "schedule(address,uint256,bytes,bytes32,bytes32,uint256)" $KMS 0 $ADD $ZERO32 $SALT ${DELAY} ${SEND}`,
    /failed: .*(TimelockUnexpectedOperationState|5ead8eb5)/s,
  ],
  ['call $TIMELOCK "isOperationPending(bytes32)(bool)" $ID', 'true'],
  ['call $TIMELOCK "isOperationReady(bytes32)(bool)" $ID', 'false'],
  [
    `send $TIMELOCK "execute${OPERATION}" $KMS 0 $ADD $ZERO32 $SALT ${SEND}`,
    /failed: .*(TimelockUnexpectedOperationState|5ead8eb5)/s,
  ],
  [`rpc evm_increaseTime ${DELAY + 1}`, /\d/],
  ['rpc evm_mine', /0x0/],
  ['call $TIMELOCK "isOperationReady(bytes32)(bool)" $ID', 'true'],
  [`send $TIMELOCK "execute${OPERATION}" $KMS 0 $ADD $ZERO32 $SALT ${SEND}`, sent],
  ['call $TIMELOCK "isOperationDone(bytes32)(bool)" $ID', 'true'],
  ['call $KMS "isAuthorized(bytes32)(bool)" $OTHER', 'true'],
  [`call $TIMELOCK "hashOperation${OPERATION}(bytes32)" $KMS 0 $ADD $ZERO32 $ZERO32`, /^0x[0-9a-f]{64}$/],
  [
    `send $TIMELOCK "schedule(address,uint256,bytes,bytes32,bytes32,uint256)" $KMS 0 $ADD $ZERO32 $ZERO32 ${DELAY} ${SEND}`,
    sent,
  ],
  [`send $TIMELOCK "cancel(bytes32)" $ID ${SEND}`, sent],
  ['call $TIMELOCK "isOperation(bytes32)(bool)" $ID', 'false'],
];

// One test: each command stands on those before it.
test('documented cast commands', async () => {
  for (const [command, answer] of commands) {
    const output = await cast(filledIn(command));
    const expected =
      typeof answer === 'string'
        ? filledIn(answer)[0]!
        : new RegExp(answer.source.replace('$NEXT', nextImplementation.slice(2).toLowerCase()), answer.flags);
    if (typeof expected === 'string') expect(output, `cast ${command}`).toBe(expected);
    else expect(output, `cast ${command}`).toMatch(expected);
    if (command.includes('hashOperation')) operation = output;
  }
}, 900_000);
