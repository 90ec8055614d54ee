/** lying-rpc, with proofs: what denies on chain cannot be shown to be absent (contracts of the later versions). */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ChainLab } from '../../test/chain-lab.ts';
import { startChainLab } from '../../test/chain-lab.ts';
import { facts } from '../../test/facts.ts';
import { isProof, type LyingRelay, type Proof, startLyingRelay } from '../../test/lying-relay.ts';
import type { ChainPolicy } from '../chain-policy.ts';
import { bytesOf, hex } from './test/compare.ts';
import { deployLaterVersions, type LaterVersions } from './test/later-versions.ts';

const { composeHash, deviceId, osImageHash } = facts();

let lab: ChainLab;
let relay: LyingRelay;
let later: LaterVersions;
let policy: ChainPolicy;
beforeAll(async () => {
  lab = await startChainLab();
  relay = await startLyingRelay(lab.url);
  later = await deployLaterVersions(lab);
  const { kms: kmsContract, knownCode } = later;
  const own = { rpcUrls: [relay.url], lightClientUrl: lab.url };
  policy = lab.policy(kmsContract, { ...own, reads: 'proofs', knownCode });
}, 60_000);
afterAll(async () => {
  await relay?.close();
  await lab?.stop();
});

const send = (name: string, ...args: unknown[]): Promise<void> =>
  lab.send(later.kms, later.kmsAbi, name, args);
const ask = () => policy.authorize('app', facts({ appId: bytesOf(later.app3) }));

test('a denial that is written on chain cannot be shown to be absent', async () => {
  await send('setRegistered', later.app3, true);
  await send('setImage', hex(osImageHash), true);
  for (const [name, value] of [
    ['setComposeHash', hex(composeHash)],
    ['setDevice', hex(deviceId)],
  ] as const) {
    await lab.send(later.app3, later.appAbi, name, [value, true]);
  }
  expect(await ask()).toMatchObject({ allowed: true });
  const absent = relay
    .take()
    .filter(isProof)
    .flatMap(({ result }) => (result as Proof).storageProof)
    .filter(({ value }) => value === '0x0');
  expect(absent.length).toBeGreaterThan(2);

  const levers: [string, unknown[], unknown[], string][] = [
    ['setPaused', [true], [false], 'KMS contract is paused'],
    ['setAdvisory', ['INTEL-SA-00837', true], ['INTEL-SA-00837', false], 'Advisory is denied'],
    ['setBlocked', [later.app3, true], [later.app3, false], 'App is blocked'],
    ['setAppNotAfter', [later.app3, 1], [later.app3, 0], 'App authorization expired'],
    ['setImageNotAfter', [hex(osImageHash), 1], [hex(osImageHash), 0], 'OS image authorization expired'],
  ];
  for (const [name, on, off, reason] of levers) {
    await send(name, ...on);
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
    await send(name, ...off);
  }
  expect(await ask()).toMatchObject({ allowed: true });
}, 60_000);
