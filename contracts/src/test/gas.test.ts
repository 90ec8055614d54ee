/**
 * What each operation costs, and how large each contract is: `gas-snapshot.md` beside the contracts, which
 * docs/contracts.md refers to. After a change that is meant to cost: `npx vitest run contracts/src/test/gas.test.ts -u`.
 */
import { type Abi, type Address, encodeFunctionData, type Hex, keccak256, toHex, zeroHash } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dstackAppAbi } from '../abi/dstack-app.ts';
import { dstackKmsAbi } from '../abi/dstack-kms.ts';
import { type ContractName, contractsDirectory, loadArtifact } from '../artifact.ts';
import { deployKmsImplementation } from '../deploy.ts';
import { transact } from '../transact.ts';
import { repeated, startTestChain, type TestChain, vectorBootInfo } from './test-chain.ts';

let chain: TestChain;
beforeAll(async () => {
  chain = await startTestChain();
});
afterAll(() => chain?.anvil.stop());

const hash = (name: string): Hex => keccak256(toHex(name));
const grouped = (value: bigint | number): string => value.toLocaleString('en-US');

test('gas and sizes are as recorded', async () => {
  const { owner, kms, app } = chain;
  const me = owner.account.address;
  const rows: [string, bigint][] = [];
  const on =
    (address: Address, abi: Abi) =>
    async (label: string, name: string, args: readonly unknown[]): Promise<void> => {
      rows.push([label, (await transact(owner, address, abi, name, args)).gasUsed]);
    };
  const onKms = on(kms, dstackKmsAbi as Abi);
  const onApp = on(app, dstackAppAbi as Abi);
  const { mrAggregated, deviceId, osImageHash, composeHash } = vectorBootInfo;
  const appSetUp = [me, false, true, true, zeroHash, composeHash] as const;

  rows.push(['deploy the proxy of a KMS', (await receipt(chain.deployment.transactionHash)).gasUsed]);
  await onKms('create an app (CREATE)', 'deployAndRegisterApp', [me, false, true, zeroHash, composeHash]);
  await onKms('create an app (CREATE2)', 'deployAndRegisterAppDeterministic', [zeroHash, ...appSetUp]);
  await onKms('register an app', 'registerApp', [repeated('12', 20)]);
  await onKms('register it again', 'registerApp', [repeated('12', 20)]);
  await onKms('allow an OS image', 'addOsImageHash', [osImageHash]);
  await onKms('allow an OS image until a time', 'addOsImageHashUntil', [hash('until'), 4_000_000_000n]);
  await onKms('revoke an OS image', 'removeOsImageHash', [hash('until')]);
  await onKms('allow a KMS measurement', 'addKmsAggregatedMr', [mrAggregated]);
  await onKms('allow a KMS device', 'addKmsDevice', [deviceId]);
  await onKms('name a guardian', 'setGuardian', [repeated('34', 20), true]);
  await onKms('block an app', 'blockApp', [app]);
  await onKms('unblock an app', 'unblockApp', [app]);
  await onKms('deny an advisory', 'denyAdvisory', ['INTEL-SA-00001']);
  await onKms('pause', 'pause', []);
  await onKms('unpause', 'unpause', []);
  const five = ['1', '2', '3', '4', '5'].map((name) =>
    encodeFunctionData({ abi: dstackKmsAbi, functionName: 'addOsImageHash', args: [hash(name)] }),
  );
  await onKms('allow five OS images in one batch', 'multicall', [five]);
  await onKms('upgrade', 'upgradeToAndCall', [await deployKmsImplementation(owner), '0x']);
  await onApp('allow a compose hash', 'addComposeHash', [composeHash]);
  await onApp('allow a device', 'addDevice', [deviceId]);
  await onApp('replace a compose hash, with grace', 'replaceComposeHash', [composeHash, hash('next'), 3600n]);
  await onApp('revoke a compose hash', 'removeComposeHash', [hash('next')]);

  const decide = (functionName: 'isAppAllowed' | 'isKmsAllowed'): Promise<bigint> => {
    const args = [{ ...vectorBootInfo, appId: app }] as const;
    const data = encodeFunctionData({ abi: dstackKmsAbi, functionName, args });
    return owner.public.estimateGas({ to: kms, data, account: owner.account });
  };
  // Reading is free; this bounds what a reader must allow.
  rows.push(['isAppAllowed, as a transaction', await decide('isAppAllowed')]);
  rows.push(['isKmsAllowed, as a transaction', await decide('isKmsAllowed')]);

  const names: ContractName[] = ['DstackKms', 'DstackApp', 'DstackTimelock', 'DstackAttestationRegistry'];
  const text = [
    'Compiled with the settings of a release, measured on a local chain.',
    '',
    '| Operation | Gas |',
    '| --- | --- |',
    ...rows.map(([label, gas]) => `| ${label} | ${grouped(gas)} |`),
    '',
    '| Contract | Bytes of code (at most 24,576) |',
    '| --- | --- |',
    ...names.map((name) => `| ${name} | ${grouped(loadArtifact(name).deployedBytecode.length / 2 - 1)} |`),
    '',
  ].join('\n');
  await expect(text).toMatchFileSnapshot(`${contractsDirectory}/gas-snapshot.md`);
});

const receipt = (hash: Hex) => chain.owner.public.getTransactionReceipt({ hash });
