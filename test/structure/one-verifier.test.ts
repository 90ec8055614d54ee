/** Evidence is verified, and vendors are asked, by one code each: what a second one lacks would be found by nobody. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

function sources(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      return /^(node_modules|dist|test|testing|test-support|gen)$/.test(entry.name) ? [] : sources(path);
    }
    return /\.ts$/.test(entry.name) && !/\.(test|fixture|d)\.ts$/.test(entry.name) ? [path] : [];
  });
}

const files = ['cli', 'kms', 'packages']
  .flatMap((folder) => sources(join(repository, folder)))
  .map((path) => ({ name: relative(repository, path), text: readFileSync(path, 'utf8') }));

/** Files that call one of these functions, their own file aside. */
const callers = (pattern: RegExp): string[] =>
  files
    .filter(({ text }) => pattern.test(text.replace(/export (async )?function .*/g, '')))
    .map(({ name }) => name);

test('the services of the vendors are put together at one place', () => {
  expect(callers(/\b(amdKdsCollateral|googleTpmCollateral|vendorCrls)\(/)).toEqual([
    'packages/attestation/src/vendor-collateral.ts',
  ]);
  // Browsers get at a PCCS alone.
  expect(callers(/\bpcsCollateral\(/)).toEqual([
    'packages/attestation/src/vendor-collateral.ts',
    'packages/verifier/src/browser/verify-file.ts',
  ]);
});

test('roots of a configuration are read and marked at one place', () => {
  expect(callers(/\bder, simulated: true/)).toEqual(['packages/attestation/src/roots/replace-root.ts']);
});

test('the command line verifies evidence by the verifier', () => {
  const own =
    /\b(inspectAttestation|verifyAttestation|inspectOsImage|bootInfo|appraiseTcb|verifyPeerAttestation)\(/;
  expect(callers(own).filter((name) => name.startsWith('cli/'))).toEqual([]);
});
