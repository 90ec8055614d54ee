#!/usr/bin/env node
// Shows forge the compiler that npm installed as the program it expects, so that it needs no download.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const solc = createRequire(import.meta.url)('solc');

/** Libraries lie above the project, where forge expects the compiler to look for itself. */
function readImport(path) {
  try {
    return { contents: readFileSync(path, 'utf8') };
  } catch {
    return { error: `${path} cannot be read` };
  }
}

if (process.argv.includes('--standard-json')) {
  process.stdout.write(solc.compile(readFileSync(0, 'utf8'), { import: readImport }));
} else {
  // `0.8.24+commit.e11b9ed9.Emscripten.clang`; forge reads the version and ignores the rest.
  const version = solc.version().replace(/Emscripten.*/, 'Linux.g++');
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${version}\n`);
}
