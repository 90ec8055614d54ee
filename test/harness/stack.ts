/**
 * Everything that a key request touches, really running on this machine: a chain, the contracts, a simulated TDX
 * platform with its collateral service, and a bootstrapped KMS in a machine of its own. Made of the demo's steps.
 */
import { readFile } from 'node:fs/promises';
import { addComposeHash, type ChainClient, deployApp, removeComposeHash } from '@dstack-cloud/contracts';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { build } from '@dstack-cloud/scripts/build';
import { Cleanup } from '@dstack-cloud/scripts/demo/cleanup';
import {
  type Contracts,
  deployContracts,
  publishKms,
  registerKms,
} from '@dstack-cloud/scripts/demo/contracts';
import {
  bootKms,
  bootstrapKms,
  finishKms,
  IMAGE,
  type Kms,
  type KmsIdentity,
  kmsAttestation,
} from '@dstack-cloud/scripts/demo/kms';
import { type Chain, startChain } from '@dstack-cloud/scripts/demo/start-chain';
import { type Platform, startPlatform } from '@dstack-cloud/scripts/demo/start-platform';
import { makeWorkspace, type Workspace, writeConfig } from '@dstack-cloud/scripts/demo/workspace';
import { createGcp, createPlatform, type SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { callKms } from './call-kms.ts';
import { clientIdentity, type Tampering, type Workload } from './simulated-workload.ts';

/** Name of the simulated machine that made-up workloads run on. */
const MACHINE = 'test-host';

export interface Stack {
  readonly space: Workspace;
  readonly chain: Chain;
  readonly contracts: Contracts;
  readonly pccs: Platform;
  /** Hardware for workloads that no process runs. */
  readonly hardware: SimulatedPlatform;
  readonly kms: Kms & KmsIdentity;
  /** Global configuration for `dstack-cloud`. */
  readonly config: string;
  /** PEM of the KMS's temporary CA and its key, and of its root CA. */
  readonly tempCa: { tempCaCert: string; tempCaKey: string; rootCa: string };
  stop(): Promise<void>;
}

/** How a stack differs from the usual one. */
export interface StackOptions {
  /** Name of the KMS in its certificate, as its guests address it. */
  readonly domain?: string;
  /** Whether the KMS believes simulated vTPMs of Google Cloud. */
  readonly vtpms?: boolean;
  /** Environment of the KMS. */
  readonly kmsEnv?: Readonly<Record<string, string>>;
  /** Addresses by which the KMS reaches its chain and its collateral service, given theirs. */
  readonly relay?: (chainUrl: string, pccsUrl: string) => Promise<{ chainUrl: string; pccsUrl: string }>;
}

/** All test clients share one address; tests of the limits themselves leave this out. */
const NO_RATE_LIMIT = '\n[core.rate_limit]\nenabled = false\n';

/**
 * Starts a stack; about five seconds.
 * @param extraConfig tables added to the KMS's configuration
 */
export async function startStack(
  extraConfig: string = NO_RATE_LIMIT,
  { domain, kmsEnv, vtpms, relay }: StackOptions = {},
): Promise<Stack> {
  const { directory } = await build();
  const cleanup = new Cleanup();
  try {
    const space = await makeWorkspace(cleanup, directory, false);
    const chain = await startChain(space, cleanup);
    const contracts = await deployContracts(chain);
    const pccs = await startPlatform(space, cleanup);
    const seed = new Uint8Array(await readFile(space.seedFile));
    const signal = new AbortController().signal;
    const reached = await relay?.(chain.rpcUrl, pccs.pccsUrl);
    const booted = await bootKms({
      space,
      chain: { ...chain, ...(reached && { rpcUrl: reached.chainUrl }) },
      contracts,
      platform: { ...pccs, ...(reached && { pccsUrl: reached.pccsUrl }) },
      signal,
      note: () => undefined,
      extraConfig,
      ...(vtpms === true && { vtpmRootPem: createGcp(seed).rootPem }),
      ...(kmsEnv && { env: kmsEnv }),
    });
    await registerKms(contracts, await kmsAttestation(booted));
    const identity = await bootstrapKms(booted, domain);
    await publishKms(contracts, identity);
    await finishKms(booted);
    const config = await writeConfig(space, { chain, contracts, platform: pccs, kmsUrl: booted.url });
    return {
      space,
      chain,
      contracts,
      pccs,
      hardware: createPlatform(seed, { machine: MACHINE }),
      kms: { ...booted, ...identity },
      config,
      tempCa: await temporaryCa(booted.url),
      stop: () => cleanup.run(),
    };
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

async function temporaryCa(url: string): Promise<Stack['tempCa']> {
  const answer = await callKms(url, 'GetTempCaCert');
  const { temp_ca_cert, temp_ca_key, ca_cert } = JSON.parse(answer.body) as Record<string, string>;
  return { tempCaCert: temp_ca_cert ?? '', tempCaKey: temp_ca_key ?? '', rootCa: ca_cert ?? '' };
}

/**
 * An app contract of the stack's owner that allows any device and one compose hash, and a workload that fits it.
 * @param client who sends the transaction
 */
export async function registeredWorkload(
  stack: Stack,
  name: string,
  client: ChainClient = stack.contracts.client,
): Promise<Workload> {
  const composeHash = new Uint8Array(32);
  composeHash.set(new TextEncoder().encode(name).subarray(0, 32));
  const { kms } = stack.contracts;
  const { appId } = await deployApp({
    client,
    kms,
    owner: stack.contracts.client.account.address,
    allowAnyDevice: true,
    composeHash: `0x${toHex(composeHash)}`,
  });
  const instanceId = new Uint8Array(20).fill(7);
  return { appId: fromHex(appId.slice(2).toLowerCase()), composeHash, instanceId, image: IMAGE };
}

/** Allows or revokes the compose hash of a workload on chain. */
export async function setAllowed(stack: Stack, workload: Workload, allowed: boolean): Promise<void> {
  const change = allowed ? addComposeHash : removeComposeHash;
  await change(stack.contracts.client, `0x${toHex(workload.appId)}`, `0x${toHex(workload.composeHash)}`);
}

/** The RA-TLS identity of a workload at this stack. */
export function identityOf(
  stack: Stack,
  workload: Workload,
  tampering?: Tampering,
): Promise<{ cert: string; key: string }> {
  return clientIdentity({
    platform: stack.hardware,
    workload,
    ...stack.tempCa,
    ...(tampering === undefined ? {} : { tampering }),
  });
}
