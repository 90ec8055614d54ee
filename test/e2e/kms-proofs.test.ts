/** A real KMS that believes a light client about the head and nobody about the rest: decisions by proven storage. */
import { deployKmsImplementation, dstackAppAbi } from '@dstack-cloud/contracts';
import { toHex } from '@dstack-cloud/encoding';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { errorOf } from '../harness/call-kms.ts';
import { chainPolicyConfig, type LabChain, startLabChain } from '../harness/kms-chain.ts';
import { getAppKey, type KmsLab, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { type Relay, startRelay } from '../harness/loopback-server.ts';
import type { Workload } from '../harness/simulated-workload.ts';

let lab: KmsLab;
let chain: LabChain;
/** The only execution endpoint, which nobody has to trust. */
let endpoint: Relay;
let lightClient: Relay;
let kms: KmsProcess;
let honest: Workload;

beforeAll(async () => {
  lab = await startKmsLab();
  chain = await startLabChain(lab, 1);
  endpoint = await startRelay(chain.anvil.rpcUrl);
  lightClient = await startRelay(chain.anvil.rpcUrl);
  honest = await chain.registerApp('honest');
  const policy = chainPolicyConfig(chain, [endpoint.url], {
    read: 'proof',
    light_client_url: lightClient.url,
    max_block_age: '5s',
    head_reuse_ms: 0,
  });
  const host = await lab.host('proofs', { core: { auth_api: policy } });
  await chain.registerKms(host);
  kms = await host.serve();
}, 120_000);
afterAll(async () => {
  await Promise.all([endpoint?.close(), lightClient?.close()]);
  await chain?.stop();
  await lab?.stop();
});
beforeEach(() => {
  for (const relay of [endpoint, lightClient]) Object.assign(relay, { mood: 'pass', rewrite: undefined });
});

/** Certificates are issued before anything goes wrong, as the KMS asks the policy about itself then too. */
const client = async (workload: Workload) => {
  const identity = await lab.identity(kms, workload);
  return () => getAppKey(kms, identity);
};

test('proven-release: a key while the chain allows, none after the revocation, one again after that', async () => {
  const app = await chain.registerApp('proven');
  const ask = await client(app);
  const answer = await ask();
  expect(answer.status, answer.body).toBe(200);
  await chain.setAllowed(app, false);
  expect(errorOf(await ask())).toBe('App not allowed: Boot denied: Compose hash not allowed');
  await chain.setAllowed(app, true);
  expect((await ask()).status).toBe(200);
  // Nothing was executed at the endpoint, and no head asked of it.
  expect(endpoint.seen.length).toBeGreaterThan(0);
  for (const { body } of endpoint.seen) expect(body).not.toMatch(/eth_call|eth_getBlockByNumber|eth_chainId/);
  for (const { body } of lightClient.seen) expect(body).not.toMatch(/eth_getProof|eth_call/);
});

test('lying-rpc, the only one: gives nobody a key', async () => {
  const evil: Workload = { ...honest, appId: new Uint8Array(20).fill(0x66) };
  const [askEvil, askHonest] = [await client(evil), await client(honest)];
  expect(errorOf(await askEvil())).toContain('App not registered');
  // Proofs of the honest app for the unregistered one.
  endpoint.rewrite = (body) => body.replaceAll(toHex(evil.appId), toHex(honest.appId));
  expect((await askEvil()).status).not.toBe(200);

  const revoked = await chain.registerApp('revoked');
  const askRevoked = await client(revoked);
  expect((await askRevoked()).status).toBe(200);
  const before = `"0x${(await chain.client.public.getBlockNumber()).toString(16)}"`;
  await chain.setAllowed(revoked, false);
  // Proofs of the state before the revocation.
  endpoint.rewrite = (body) => body.replaceAll(/\{"blockHash":"0x[0-9a-f]{64}"\}/g, before);
  expect((await askRevoked()).status).not.toBe(200);
  endpoint.rewrite = undefined;
  expect(errorOf(await askRevoked())).toContain('Compose hash not allowed');
  expect((await askHonest()).status).toBe(200);
});

test('light-client-gone: without a head from it nobody gets a key, whatever the endpoint says', async () => {
  const ask = await client(honest);
  lightClient.mood = 'hang';
  expect((await ask()).status).not.toBe(200);
  lightClient.mood = 'pass';
  const block = await chain.client.public.getBlockNumber();
  lightClient.rewrite = (body) => body.replaceAll('"latest"', `"0x${block.toString(16)}"`);
  await new Promise((resolve) => setTimeout(resolve, 6_500));
  expect(errorOf(await ask())).toContain('on-chain state is stale');
  lightClient.rewrite = undefined;
  expect((await ask()).status).toBe(200);
});

test('foreign-implementation: an app whose contract is replaced by unknown code has no keys', async () => {
  const app = await chain.registerApp('foreign');
  const ask = await client(app);
  expect((await ask()).status).toBe(200);
  const { wallet, account, chain: network } = chain.client;
  const foreign = await deployKmsImplementation(chain.client);
  const hash = await wallet.writeContract({
    address: `0x${toHex(app.appId)}`,
    abi: dstackAppAbi,
    functionName: 'upgradeToAndCall',
    args: [foreign, '0x'],
    account,
    chain: network,
  });
  await chain.client.public.waitForTransactionReceipt({ hash });
  expect(errorOf(await ask())).toContain(
    `App contract implementation ${foreign.toLowerCase()} is not known (code hash 0x`,
  );
});
