/** What the contracts and what stands on them must do, and the test that shows it: each named test is still there. */
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const CONTRACTS = 'contracts/src/test';
const SOLIDITY = 'contracts/test';
const CHAIN = 'packages/policy/src/chain';
const WATCHER = 'packages/watcher/src';

/** File, then names of tests as they are written there. */
type Shown = readonly [file: string, ...tests: string[]];

const acceptance: Readonly<Record<string, readonly Shown[]>> = {
  'selectors, topics, interface ids, slots and reasons are those that others know': [
    [
      `${CONTRACTS}/abi.test.ts`,
      'has exactly the 30 functions of v0.6 and the additions',
      'has exactly the 18 functions of v0.6 and the additions',
      'has exactly these events, with their indexing',
      'has exactly the reachable errors',
      'has the field order of the 0.6 line',
      'IAppAuth is the selector of isAppAllowed',
    ],
    [`${CONTRACTS}/storage.test.ts`, 'allowedOsImages', 'registeredApps', 'allowedComposeHashes'],
    [`${CONTRACTS}/decisions.test.ts`, 'names the first fault, in order'],
    [`${CONTRACTS}/factory.test.ts`, 'the first app of the first KMS has the documented address'],
  ],
  'live proxies of earlier releases keep their state over an upgrade, and may go back': [
    [
      `${CONTRACTS}/upgrade.test.ts`,
      'from 0.6 to this version and back',
      'from release 3 to this version and back: guardians, ends, blocks, denials and epochs stay',
    ],
    [`${CONTRACTS}/upgrade-safety.test.ts`, 'from release %s', 'what would corrupt a proxy is found'],
  ],
  'every task of the hardhat grammar works, with the lines that scripts look for': [
    [
      'contracts/src/tasks/tasks.test.ts',
      'each says so and has its effect',
      'kms:set-info reads a file',
      'kms:deploy asks, and deploys all three',
      'kms:deploy-impl, app:deploy-impl, app:deploy',
      'upgrades of 0.6, dry and real; a contract from before 0.6 is left alone',
      'kms:create-app, by the next address and by one that is known before',
      'the commands of docs/contracts.md do what they say',
    ],
  ],
  'every documented command of cast and forge answers as documented': [
    [`${CONTRACTS}/foundry-commands.test.ts`, 'documented cast commands'],
    [`${CONTRACTS}/forge.test.ts`, 'documented forge commands: build, and create on a chain'],
  ],
  'governance is deployed and operated by commands, and keys follow it': [
    [
      'test/e2e/governance.test.ts',
      'governance-safe-timelock: keys follow what two of three signers scheduled, and stop when a guardian says so',
    ],
    [`${SOLIDITY}/DstackTimelock.t.sol`, 'testGuardianRevokesWhileAnAdditionWaits'],
    [`${SOLIDITY}/DstackKms.t.sol`, 'testGuardianTakesAwayAtOnce'],
  ],
  'decisions are those of a model, in 10,000 cases and more': [
    [`${CHAIN}/proof/decision-model.test.ts`, 'the EVM decides as the checks do, whatever the slots hold'],
    [`${SOLIDITY}/Decisions.t.sol`, 'testFuzzDecisions', 'testFuzzOneFault'],
  ],
  'nobody but owner and guardians changes a policy, guardians only take away, each change is counted': [
    [`${SOLIDITY}/Governance.invariant.t.sol`, 'invariantGovernance', 'testFuzzNothingIsAddedUnannounced'],
    [`${SOLIDITY}/DstackApp.t.sol`, 'testGuardianTakesAwayAndNeverAdds', 'testUpgradesDisabledForEver'],
  ],
  'app contracts that revert, burn gas, answer too much, too little or nonsense deny': [
    [
      `${SOLIDITY}/HostileApps.t.sol`,
      'testReverts',
      'testBurnsItsGas',
      'testAnswersFourMegabytes',
      'testShortAnswer',
      'testTwoIsNoBool',
    ],
  ],
  'endpoints that lie, lag, die or fork neither allow nor hide anything': [
    [
      `${CHAIN}/chain-policy.test.ts`,
      'lying-rpc: one that allows does not win',
      'frozen-rpc: the last block grows old, and nothing is allowed any more',
      'a reorganisation at the same height decides anew',
      'revoked-between-requests: the next block decides anew',
      'one that is dead (%s) does no harm',
      'describes itself without the path of the endpoint, once a second at most',
    ],
    [
      'test/e2e/kms-chain.test.ts',
      'lying-rpc: one endpoint of three gives nobody keys, and takes them from nobody',
    ],
  ],
  'the policy reads epochs, ends, pause, blocks and denied advisories alike by calls and by proofs': [
    [
      `${CHAIN}/proof/extended-decisions.test.ts`,
      'a KMS: pause, advisories, TCB, image, expiry, measurement, device, in this order',
      'what the KMS contract says of an app: blocked, expired, image, its expiry',
      'a guardian revokes at once',
      'times end with their last second, by the clock of the block',
      'an app that goes to another version and back decides as the version it has',
    ],
    [`${CHAIN}/contracts/known-code.test.ts`, 'have release %s of %s', 'with any other byte is not known'],
  ],
  'the watcher tells each suspicious thing before it takes effect, once, whatever endpoints do': [
    [
      `${WATCHER}/alerts/rules.test.ts`,
      'a shorter delay is grave',
      'what a guardian revokes is suspicious, and says who',
      'changed by nobody who may',
      'changed by its Timelock',
      'what is dangerous in a batch is found',
    ],
    [
      `${WATCHER}/follow/follower.test.ts`,
      'one endpoint of three that leaves events out, lags, answers nonsense or hangs changes nothing',
      'an event that a reorganisation moves is told once, and one that it removes is taken back',
    ],
    [
      `${WATCHER}/watch.test.ts`,
      'a proposal is told before it takes effect, and a change that got round the Timelock is told at once',
      'a running watcher serves metrics to this machine by its own names, and stops',
    ],
    [
      `${WATCHER}/safe-service/safe-service.test.ts`,
      'what signers propose is told in words before it is executed, with who signed',
      'a service that lies is told at once, and believed in nothing',
    ],
  ],
  'sizes, gas, descriptions and rules of style are held': [
    [`${CONTRACTS}/abi.test.ts`, '%s fits the contract size limit with room to spare'],
    [`${CONTRACTS}/gas.test.ts`, 'gas and sizes are as recorded'],
    [
      `${CONTRACTS}/natspec.test.ts`,
      'says what each function, event and error of its own means, and each parameter of functions',
    ],
    [`${CONTRACTS}/solhint.test.ts`, '%s is found'],
    [`${CONTRACTS}/forge.test.ts`, 'lint finds nothing'],
  ],
};

describe.each(Object.entries(acceptance))('%s', (_, shown) => {
  test.each(shown.map(([file, ...tests]) => [file, tests] as const))('%s', (file, tests) => {
    const source = readFileSync(join(repository, file), 'utf8');
    const missing = tests.filter((name) =>
      file.endsWith('.sol')
        ? !new RegExp(`function ${name}\\(`).test(source)
        : !source.includes(`'${name}'`) && !source.includes(`\`${name}\``),
    );
    expect(missing).toEqual([]);
  });
});
