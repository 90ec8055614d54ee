import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Abi } from 'viem';
import type { StorageVariable } from './artifact.ts';
import { ContractsError } from './errors.ts';

/** Settings of every release; changing one changes all addresses and code hashes. */
export const compilerSettings = {
  optimizer: { enabled: true, runs: 200 },
  evmVersion: 'paris',
  viaIR: false,
} as const;

/** The part of solc's answer for one contract that we use. */
export type CompiledContract = {
  abi: Abi;
  evm: { bytecode: { object: string }; deployedBytecode: { object: string } };
  metadata?: string;
  devdoc?: unknown;
  userdoc?: unknown;
  storageLayout?: { storage: readonly StorageVariable[]; types?: Readonly<Record<string, StorageType>> };
};

/** A type of a storage layout; structs have members. */
type StorageType = { label: string; members?: readonly StorageVariable[] };

type Diagnostic = { severity: string; formattedMessage: string };
type Output = {
  errors?: readonly Diagnostic[];
  contracts?: Record<string, Record<string, CompiledContract>>;
  sources?: Record<string, { ast?: unknown }>;
};
type ImportAnswer = { contents: string } | { error: string };
type Solc = {
  version(): string;
  compile(input: string, callbacks: { import(path: string): ImportAnswer }): string;
};

/** What the compiler was given, with every import, and what it answered. */
export type CompilerRun = {
  readonly version: string;
  readonly input: {
    language: string;
    sources: Record<string, { content: string }>;
    settings: Record<string, unknown>;
  };
  readonly output: Output;
};

/**
 * Compile Solidity sources; imports of packages are read from node_modules.
 * @param sources contents by source name, for example `contracts/DstackKms.sol`
 * @param base directory that imports are resolved from
 * @returns contracts by `source:name`
 * @throws ContractsError `compile-failed`; warnings in our own sources count as errors
 */
export function compile(sources: ReadonlyMap<string, string>, base: string): Map<string, CompiledContract> {
  const { output } = runCompiler(sources, base, {
    '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object', 'storageLayout'] },
  });
  return new Map(
    Object.entries(output.contracts ?? {}).flatMap(([source, contracts]) =>
      Object.entries(contracts).map(([name, contract]) => [`${source}:${name}`, contract] as const),
    ),
  );
}

/**
 * The same with another selection of output. Without code it takes a fraction of the time.
 * @throws ContractsError `compile-failed`
 */
export function runCompiler(
  sources: ReadonlyMap<string, string>,
  base: string,
  outputSelection: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>,
): CompilerRun {
  const require = createRequire(`${base}/`);
  const input = {
    language: 'Solidity',
    sources: Object.fromEntries([...sources].map(([name, content]) => [name, { content }])),
    settings: { ...compilerSettings, outputSelection },
  };
  const imported: Record<string, { content: string }> = {};
  const readImport = (path: string): ImportAnswer => {
    const own = sources.get(path);
    if (own !== undefined) return { contents: own };
    try {
      const contents = readFileSync(require.resolve(path), 'utf8');
      imported[path] = { content: contents };
      return { contents };
    } catch {
      return { error: `${path} is not installed` };
    }
  };
  const solc = loadSolc();
  const text = solc.compile(JSON.stringify(input), { import: readImport });
  const output = JSON.parse(text) as Output;

  const problems = (output.errors ?? []).filter(
    ({ severity, formattedMessage }) =>
      severity === 'error' || (severity === 'warning' && /--> contracts\//.test(formattedMessage)),
  );
  if (problems.length > 0) {
    throw new ContractsError(
      'compile-failed',
      problems.map(({ formattedMessage }) => formattedMessage).join('\n'),
    );
  }
  return {
    version: solc.version(),
    input: { ...input, sources: { ...input.sources, ...imported } },
    output,
  };
}

/** Load the compiler; its emscripten runtime installs process-wide crash handlers, which are taken off again. */
function loadSolc(): Solc {
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => process.listeners(event as 'uncaughtException'));
  const require = createRequire(import.meta.url);
  const solc = require('solc') as Solc;
  events.forEach((event, index) => {
    for (const listener of process.listeners(event as 'uncaughtException')) {
      if (!before[index]?.includes(listener)) process.off(event, listener);
    }
  });
  return solc;
}
