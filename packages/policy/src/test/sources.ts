/** Every policy source in the same world: one OS image, one KMS, one app, and levers to change it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BootInfo } from '@dstack-cloud/attestation';
import {
  addComposeHash,
  addDevice,
  addKmsAggregatedMr,
  addKmsDevice,
  addOsImageHash,
  buildContracts,
  connectChain,
  deployApp,
  deployKms,
  removeComposeHash,
  setGatewayAppId,
  startAnvil,
} from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { allowListPolicy } from '../allow-list/allow-list-policy.ts';
import { chainPolicy } from '../chain/chain-policy.ts';
import type { BootKind, Policy } from '../policy.ts';
import { webhookPolicy } from '../webhook/webhook-policy.ts';
import { facts } from './facts.ts';
import { answerJson, startFakeServer } from './fake-server.ts';

/** A policy and the world it decides on. */
export type World = {
  readonly policy: Policy;
  /** Facts that are allowed as an app and as a KMS. */
  readonly allowed: BootInfo;
  /** Take the app's compose hash away. */
  revoke(): Promise<void>;
  /** Give it back. */
  restore(): Promise<void>;
  /** Make the source unreachable. */
  breakDown(): Promise<void>;
  close(): Promise<void>;
};

/** The sources, by name. */
export const worlds: Readonly<Record<string, () => Promise<World>>> = {
  chain: () => chainWorld('calls'),
  'chain, proven': () => chainWorld('proofs'),
  'allow-list': allowListWorld,
  webhook: webhookWorld,
};

async function chainWorld(reads: 'calls' | 'proofs'): Promise<World> {
  await buildContracts();
  const anvil = await startAnvil();
  // The nonces of an account are counted per process: each chain has an owner of its own.
  const { privateKey } = anvil.accounts[reads === 'calls' ? 0 : 1]!;
  const client = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey });
  const { kms } = await deployKms({ client });
  const { appId } = await deployApp({ client, kms });
  const allowed = facts({ appId: fromHex(appId, { prefix: 'allow' }) });
  const hex = (bytes: Uint8Array): `0x${string}` => `0x${toHex(bytes)}`;
  await addOsImageHash(client, kms, hex(allowed.osImageHash));
  await addKmsAggregatedMr(client, kms, hex(allowed.mrAggregated));
  await addKmsDevice(client, kms, hex(allowed.deviceId));
  await addDevice(client, appId, hex(allowed.deviceId));
  await addComposeHash(client, appId, hex(allowed.composeHash));
  await setGatewayAppId(client, kms, 'gateway');
  const policy = chainPolicy({ rpcUrls: [anvil.rpcUrl], kmsContract: kms, chainId: anvil.chainId, reads });
  return {
    policy,
    allowed,
    revoke: async () => void (await removeComposeHash(client, appId, hex(allowed.composeHash))),
    restore: async () => void (await addComposeHash(client, appId, hex(allowed.composeHash))),
    breakDown: () => anvil.stop(),
    close: async () => {
      policy.close?.();
      await anvil.stop();
    },
  };
}

async function allowListWorld(): Promise<World> {
  const directory = await mkdtemp(join(tmpdir(), 'dstack-policy-'));
  const path = join(directory, 'auth-config.json');
  const allowed = facts();
  const write = (composeHashes: string[]): Promise<void> =>
    writeFile(
      path,
      JSON.stringify({
        gatewayAppId: 'gateway',
        osImages: [toHex(allowed.osImageHash)],
        kms: { mrAggregated: [toHex(allowed.mrAggregated)], devices: [toHex(allowed.deviceId)] },
        apps: { [toHex(allowed.appId)]: { composeHashes, devices: [toHex(allowed.deviceId)] } },
        allowedAdvisoryIds: allowed.advisoryIds,
      }),
    );
  await write([toHex(allowed.composeHash)]);
  return {
    policy: allowListPolicy(path),
    allowed,
    revoke: () => write([]),
    restore: () => write([toHex(allowed.composeHash)]),
    breakDown: () => rm(path),
    close: () => rm(directory, { recursive: true, force: true }),
  };
}

/** An auth API that decides by an allow-list. */
async function webhookWorld(): Promise<World> {
  const behind = await allowListWorld();
  const server = await startFakeServer(({ method, path, body }, response) => {
    if (method === 'GET') {
      const info = { kmsContractAddr: '0x0', chainId: 0, appImplementation: '0x0', gatewayAppId: 'gateway' };
      return answerJson(response, { status: 'ok', ...info });
    }
    const kind = path.slice('/bootAuth/'.length) as BootKind;
    const fields = JSON.parse(body) as Record<string, unknown>;
    const bytes = Object.fromEntries(
      Object.entries(fields).flatMap(([key, value]) =>
        typeof value === 'string' && key !== 'tcbStatus' && !/Mode|Variant/.test(key)
          ? [[key, fromHex(value)]]
          : [],
      ),
    );
    void behind.policy
      .authorize(kind, { ...fields, ...bytes } as unknown as BootInfo)
      .then(({ allowed, reason, gatewayAppId }) =>
        answerJson(response, { isAllowed: allowed, reason, gatewayAppId }),
      );
  });
  const policy = webhookPolicy({ url: server.url });
  return {
    ...behind,
    policy,
    breakDown: () => server.close(),
    close: async () => {
      policy.close?.();
      await server.close();
      await behind.close();
    },
  };
}
