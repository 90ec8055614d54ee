import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Abi, Hex } from 'viem';
import { ContractsError } from './errors.ts';

/** Contracts that the build writes an artifact for. */
export type ContractName =
  | 'DstackKms'
  | 'DstackApp'
  | 'DstackTimelock'
  | 'DstackAttestationRegistry'
  | 'ERC1967Proxy'
  | 'IAppAuth'
  | 'IAppAuthBasicManagement'
  | 'IPolicyDelay'
  | 'IPolicyEpoch';

/** One variable of a contract's linear storage, as solc reports it. */
export type StorageVariable = {
  readonly label: string;
  /** Slot as a decimal string. */
  readonly slot: string;
  /** Byte offset inside the slot. */
  readonly offset: number;
  readonly type: string;
};

/** What the compiler made of one contract. */
export type Artifact = {
  readonly contractName: ContractName;
  readonly abi: Abi;
  /** Creation code. */
  readonly bytecode: Hex;
  /** Runtime code, before immutables are filled in. */
  readonly deployedBytecode: Hex;
  readonly storageLayout: { readonly storage: readonly StorageVariable[] };
};

/** Folder of this package, also when this runs in a bundled program of the same checkout. */
export const contractsDirectory: string = findContracts(dirname(fileURLToPath(import.meta.url)));

function findContracts(from: string): string {
  const here = join(from, 'contracts');
  if (existsSync(join(here, 'foundry.toml'))) return here;
  const above = dirname(from);
  // Without the folder nothing can be loaded, and the error names where it was looked for.
  return above === from ? resolve('contracts') : findContracts(above);
}

/** Where `buildContracts` puts its results. */
export const artifactsDirectory: string = join(contractsDirectory, 'artifacts');

/**
 * Read one compiled contract.
 * @throws ContractsError `artifact-missing` when the contracts have not been built
 */
export function loadArtifact(name: ContractName, directory: string = artifactsDirectory): Artifact {
  return readArtifact(join(directory, `${name}.json`), 'Run `npm run build` to compile the contracts.');
}

/** Releases whose code is recorded, with the sources it was compiled from. */
export const releases = ['0.6', '3'] as const;
export type Release = (typeof releases)[number];

/** Code of an earlier release, as it was compiled then: it is deployed, and proxies are upgraded from it. */
export function loadRelease(release: Release, name: 'DstackKms' | 'DstackApp'): Artifact {
  return readArtifact(
    join(contractsDirectory, 'releases', release, `${name}.json`),
    'It belongs to the sources.',
  );
}

function readArtifact(path: string, hint: string): Artifact {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Artifact;
  } catch (cause) {
    throw new ContractsError('artifact-missing', `No usable compiled contract at ${path}. ${hint}`, {
      cause,
    });
  }
}
