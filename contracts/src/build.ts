import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Artifact, artifactsDirectory, type ContractName, contractsDirectory } from './artifact.ts';
import { type CompiledContract, compile, compilerSettings } from './compile.ts';
import { ContractsError } from './errors.ts';

const LOCK_STALE_MS = 60_000;
const LOCK_POLL_MS = 100;

/** Which source declares each contract that gets an artifact. */
const wanted: Record<ContractName, string> = {
  DstackKms: 'contracts/DstackKms.sol',
  DstackApp: 'contracts/DstackApp.sol',
  DstackTimelock: 'contracts/DstackTimelock.sol',
  DstackAttestationRegistry: 'contracts/DstackAttestationRegistry.sol',
  IAppAuth: 'contracts/IAppAuth.sol',
  IAppAuthBasicManagement: 'contracts/IAppAuthBasicManagement.sol',
  IPolicyDelay: 'contracts/IPolicyDelay.sol',
  IPolicyEpoch: 'contracts/IPolicyEpoch.sol',
  ERC1967Proxy: '@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol',
};

/** Result of `buildContracts`. */
export type BuildResult = {
  /** SHA-256, hex, of everything that goes into the compiler. */
  inputHash: string;
  /** False when the artifacts were up to date. */
  compiled: boolean;
  directory: string;
};

/**
 * Compile the contracts with npm solc, offline, unless the artifacts already belong to these sources.
 * Several processes may call it at once: one compiles, the others wait, and every file appears by rename.
 * @throws ContractsError `compile-failed` with the compiler's own messages
 */
export async function buildContracts(directory: string = artifactsDirectory): Promise<BuildResult> {
  const sources = readSources();
  const inputHash = hashInputs(sources);
  if (await isUpToDate(directory, inputHash)) return { inputHash, compiled: false, directory };

  await mkdir(directory, { recursive: true });
  const release = await lock(join(directory, '.lock'));
  try {
    if (await isUpToDate(directory, inputHash)) return { inputHash, compiled: false, directory };
    const output = compile(sources, contractsDirectory);
    for (const [name, source] of Object.entries(wanted) as [ContractName, string][]) {
      const contract = output.get(`${source}:${name}`);
      if (!contract) throw new ContractsError('compile-failed', `The compiler returned no ${name}`);
      await writeWhole(join(directory, `${name}.json`), toArtifact(name, contract));
    }
    // Last, so that it vouches only for a complete set.
    await writeWhole(join(directory, 'build.json'), { inputHash });
    return { inputHash, compiled: true, directory };
  } finally {
    await release();
  }
}

function readSources(): Map<string, string> {
  const names = readdirSync(join(contractsDirectory, 'contracts')).filter((name) => name.endsWith('.sol'));
  return new Map(
    names
      .sort()
      .map((name) => [
        `contracts/${name}`,
        readFileSync(join(contractsDirectory, 'contracts', name), 'utf8'),
      ]),
  );
}

/** Own sources by content; the compiler and OpenZeppelin are pinned, so their versions stand for them. */
function hashInputs(sources: ReadonlyMap<string, string>): string {
  const require = createRequire(import.meta.url);
  const packages = ['solc', '@openzeppelin/contracts', '@openzeppelin/contracts-upgradeable'];
  const versions = packages.map((name) => {
    const manifest = JSON.parse(readFileSync(require.resolve(`${name}/package.json`), 'utf8')) as {
      version: string;
    };
    return [name, manifest.version];
  });
  const input = JSON.stringify({ versions, compilerSettings, wanted, sources: [...sources] });
  return createHash('sha256').update(input).digest('hex');
}

async function isUpToDate(directory: string, inputHash: string): Promise<boolean> {
  try {
    const built = JSON.parse(await readFile(join(directory, 'build.json'), 'utf8')) as {
      inputHash?: unknown;
    };
    if (built.inputHash !== inputHash) return false;
    await Promise.all(Object.keys(wanted).map((name) => stat(join(directory, `${name}.json`))));
    return true;
  } catch {
    return false;
  }
}

function toArtifact(contractName: ContractName, contract: CompiledContract): Artifact {
  const { abi, evm, storageLayout } = contract;
  return {
    contractName,
    abi,
    bytecode: `0x${evm.bytecode.object}`,
    deployedBytecode: `0x${evm.deployedBytecode.object}`,
    storageLayout: {
      storage: (storageLayout?.storage ?? []).map(({ label, slot, offset, type }) => ({
        label,
        slot,
        offset,
        type,
      })),
    },
  };
}

async function writeWhole(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, `${JSON.stringify(value, null, 1)}\n`);
  await rename(temporary, path);
}

/** Take the lock file, or go on without it when its holder is dead: writing twice does no harm. */
async function lock(path: string): Promise<() => Promise<void>> {
  const release = (): Promise<void> => rm(path, { force: true });
  const deadline = Date.now() + LOCK_STALE_MS;
  while (Date.now() < deadline) {
    try {
      await writeFile(path, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = Number(await readFile(path, 'utf8').catch(() => ''));
    // 0 while the holder has not yet written its number.
    if (holder > 0 && !isAlive(holder)) await release();
    else await sleep(LOCK_POLL_MS);
  }
  return release;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
