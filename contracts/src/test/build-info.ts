/** Build information as upgrade checkers read it: the compiler's input with all imports, its syntax trees and layouts. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Artifact, contractsDirectory, loadArtifact, loadRelease, type Release } from '../artifact.ts';
import { type CompilerRun, runCompiler } from '../compile.ts';

export const upgradeable = ['DstackKms', 'DstackApp'] as const;

/** The code of a contract as it is recorded, or as it is compiled now. */
export function recorded(release: Release | undefined, name: (typeof upgradeable)[number]): Artifact {
  return release === undefined ? loadArtifact(name) : loadRelease(release, name);
}

/** Sources of a release, or the present ones, by the names that the compiler gets. */
export function sourcesOf(release: Release | undefined): Map<string, string> {
  const directory = join(
    contractsDirectory,
    release === undefined ? 'contracts' : `releases/${release}/contracts`,
  );
  const names = readdirSync(directory).sort();
  return new Map(names.map((name) => [`contracts/${name}`, readFileSync(join(directory, name), 'utf8')]));
}

/** Everything that the compiler says of sources without making code. */
export function analyse(sources: ReadonlyMap<string, string>): CompilerRun {
  return runCompiler(sources, contractsDirectory, {
    '*': { '*': ['abi', 'storageLayout', 'metadata'], '': ['ast'] },
  });
}

/**
 * Write the build information to a folder of its own.
 * @param codes code by contract name; contracts without it count as abstract
 */
export function writeBuildInfo(
  directory: string,
  { version, input, output }: CompilerRun,
  codes: ReadonlyMap<string, string>,
): void {
  const contracts = Object.fromEntries(
    Object.entries(output.contracts ?? {}).map(([source, named]) => [
      source,
      Object.fromEntries(
        Object.entries(named).map(([name, contract]) => {
          const code = { object: (codes.get(name) ?? '').replace(/^0x/, ''), linkReferences: {} };
          return [name, { ...contract, evm: { bytecode: code, deployedBytecode: code } }];
        }),
      ),
    ]),
  );
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    join(directory, 'build-info.json'),
    JSON.stringify({
      solcVersion: /^\d+\.\d+\.\d+/.exec(version)?.[0],
      solcLongVersion: version,
      input,
      output: { ...output, contracts },
    }),
  );
}
