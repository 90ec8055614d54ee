/** lying-rpc, with proofs: what denies on chain cannot be shown to be absent. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ChainLab } from '../../test/chain-lab.ts';
import { startChainLab } from '../../test/chain-lab.ts';
import { facts } from '../../test/facts.ts';
import { isProof, type LyingRelay, type Proof, startLyingRelay } from '../../test/lying-relay.ts';
import type { ChainPolicy } from '../chain-policy.ts';
import { bytesOf, hex } from './test/compare.ts';
import { deployMixedDomain, type MixedDomain } from './test/mixed-domain.ts';

const { composeHash, deviceId, osImageHash } = facts();

let lab: ChainLab;
let relay: LyingRelay;
let domain: MixedDomain;
let policy: ChainPolicy;
beforeAll(async () => {
  lab = await startChainLab();
  relay = await startLyingRelay(lab.url);
  domain = await deployMixedDomain(lab);
  const { kms: kmsContract, knownCode } = domain;
  const own = { rpcUrls: [relay.url], lightClientUrl: lab.url };
  policy = lab.policy(kmsContract, { ...own, reads: 'proofs', knownCode });
}, 60_000);
afterAll(async () => {
  await relay?.close();
  await lab?.stop();
});

const send = (name: string, ...args: unknown[]): Promise<void> =>
  lab.send(domain.kms, domain.kmsAbi, name, args);
const ask = () => policy.authorize('app', facts({ appId: bytesOf(domain.app) }));

test('a denial that is written on chain cannot be shown to be absent', async () => {
  await send('registerApp', domain.app);
  await send('addOsImageHash', hex(osImageHash));
  for (const [name, value] of [
    ['addComposeHash', hex(composeHash)],
    ['addDevice', hex(deviceId)],
  ] as const) {
    await lab.send(domain.app, domain.appAbi, name, [value]);
  }
  expect(await ask()).toMatchObject({ allowed: true });
  const absent = relay
    .take()
    .filter(isProof)
    .flatMap(({ result }) => (result as Proof).storageProof)
    .filter(({ value }) => value === '0x0');
  expect(absent.length).toBeGreaterThan(2);

  type Call = [name: string, ...args: unknown[]];
  const image = hex(osImageHash);
  const levers: [on: Call, off: Call, string][] = [
    [['pause'], ['unpause'], 'KMS contract is paused'],
    [['denyAdvisory', 'INTEL-SA-00837'], ['allowAdvisory', 'INTEL-SA-00837'], 'Advisory is denied'],
    [['blockApp', domain.app], ['unblockApp', domain.app], 'App is blocked'],
    [
      ['setAppPolicyExpiry', domain.app, 1],
      ['setAppPolicyExpiry', domain.app, 0],
      'App authorization expired',
    ],
    [['addOsImageHashUntil', image, 1], ['addOsImageHash', image], 'OS image authorization expired'],
  ];
  for (const [on, off, reason] of levers) {
    await send(...on);
    relay.lie = undefined;
    relay.take();
    expect(await ask()).toMatchObject({ allowed: false, reason });
    const present = relay
      .take()
      .filter(isProof)
      .flatMap(({ result }) => (result as Proof).storageProof);
    const lies: ((proof: string[]) => string[])[] = [
      () => [],
      () => ['0x80'],
      (proof) => proof.slice(0, -1),
      (proof) => [...proof.slice(0, -1), '0x80'],
      ...absent.map((one) => () => one.proof),
      ...present.map((one) => () => one.proof),
    ];
    for (const lie of lies) {
      relay.lie = (call) => {
        if (!isProof(call)) return undefined;
        const proof = call.result as Proof;
        const storageProof = proof.storageProof.map((slot) => ({
          ...slot,
          value: '0x0',
          proof: slot.value === '0x0' ? slot.proof : lie(slot.proof),
        }));
        return { ...proof, storageProof };
      };
      expect((await ask()).allowed).toBe(false);
    }
    relay.lie = undefined;
    await send(...off);
  }
  expect(await ask()).toMatchObject({ allowed: true });
}, 60_000);
