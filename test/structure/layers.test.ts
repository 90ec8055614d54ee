/**
 * The shape of the tree, held by tests: imports go down only, services do not import each other, and the
 * trusted ring has no dependency that is not named here with its reason.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const repository = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** Layer of each package; a package may import lower layers, and the peers named in `sameLayer`. */
const layers: Record<string, number> = {
  encoding: 0,
  keys: 0,
  files: 0,
  runtime: 0,
  attestation: 1,
  prpc: 1,
  app: 1,
  contracts: 1,
  'os-image': 1,
  certbot: 1,
  wireguard: 1,
  'ra-tls': 2,
  policy: 2,
  'audit-log': 2,
  governance: 2,
  eif: 2,
  vsock: 2,
  verifier: 3,
  kms: 3,
  'guest-agent': 3,
  vmm: 3,
  'auth-api': 3,
  gateway: 3,
  watcher: 3,
  console: 3,
  cli: 4,
  sdk: 4,
  conformance: 4,
  simulator: 4,
  'tee-simulator': 4,
  util: 4,
};

/** Imports inside one layer that the design wants; everything else inside a layer is refused. */
const sameLayer: Record<string, readonly string[]> = {
  keys: ['encoding', 'runtime'],
  'os-image': ['attestation'],
  console: ['watcher'],
  simulator: ['tee-simulator'],
};

/** Outside the layers: the operator's scripts, the tests. They may import what they need. */
const unlayered = ['scripts', 'test'];

/** Services talk by prpc; the command line drives the VMM's process driver and the verifier as libraries. */
const services = ['kms', 'guest-agent', 'vmm', 'verifier', 'auth-api', 'gateway'];

const trustedRing = [
  'encoding',
  'files',
  'runtime',
  'keys',
  'prpc',
  'attestation',
  'app',
  'ra-tls',
  'policy',
  'audit-log',
  'vsock',
  'wireguard',
  'util',
  'kms',
  'guest-agent',
  'verifier',
  'auth-api',
];

/** Every run-time dependency of the trusted ring, with the reason it is there. */
const trustedDependencies: Record<string, string> = {
  '@bufbuild/protobuf': 'protobuf runtime with descriptors',
  '@noble/curves': 'recoverable secp256k1 and Ed25519, which node:crypto lacks or does not expose',
  '@noble/hashes': 'Keccak-256, which is not SHA3-256',
  secp256k1: 'libsecp256k1, optional, held to the bytes of noble (keys only; docs/decisions/007)',
  cborg: 'strict CBOR',
  '@msgpack/msgpack': 'MessagePack',
  zod: 'schemas of configuration and foreign JSON',
  viem: 'contract ABI encoding (policy and its service only)',
  koffi: 'ioctl and vsock (guest only, loaded lazily)',
  pino: 'structured logs (services)',
  'prom-client': 'metrics (services)',
  'rate-limiter-flexible': 'rate limits (services)',
  'smol-toml': 'the TOML of the original configuration files (services; docs/decisions/003)',
  'age-encryption': 'encrypts the shares of a cold backup (kms only; docs/decisions/005)',
  'shamir-secret-sharing': 'splits the root keys for a cold backup (kms only; docs/decisions/005)',
  '@scure/base': 'bech32 of backup recipients (kms only; docs/decisions/005)',
  yaml: 'the compose file (app only; docs/decisions/004)',
};

/** Dependencies that only some packages of the ring may have. */
const only: Record<string, readonly string[]> = {
  viem: ['policy', 'auth-api'],
  secp256k1: ['keys'],
  'age-encryption': ['kms'],
  'shamir-secret-sharing': ['kms'],
  '@scure/base': ['kms'],
  yaml: ['app'],
  koffi: ['attestation', 'guest-agent'],
  pino: services,
  'prom-client': services,
  'rate-limiter-flexible': services,
  'smol-toml': services,
};

type Manifest = {
  name: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
};
type Package = { name: string; directory: string; manifest: Manifest };

const directories = [
  ...readdirSync(join(repository, 'packages')).map((name) => join('packages', name)),
  'kms',
  'cli',
  'contracts',
  'scripts',
];
const packages: Package[] = directories.map((directory) => ({
  name: basename(directory),
  directory,
  manifest: JSON.parse(readFileSync(join(repository, directory, 'package.json'), 'utf8')) as Manifest,
}));

function sources(directory: string): string[] {
  return readdirSync(directory).flatMap((entry) => {
    const path = join(directory, entry);
    if (statSync(path).isDirectory()) return sources(path);
    return /\.(ts|tsx)$/.test(entry) && !/\.d\.ts$/.test(entry) ? [path] : [];
  });
}

/** Not `Buffer.from('…')`: `from` of an import has a blank behind it. */
const importPattern = /(?:\bfrom\s+|\bimport\s*\(?\s*)['"]([^'".][^'"]*)['"]/g;

/** Packages that a source file imports by name, without node's own modules. */
function importedPackages(path: string): string[] {
  const text = readFileSync(path, 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
  return [...text.matchAll(importPattern)]
    .map((match) => match[1] ?? '')
    .filter((name) => /^(@[\w-]+\/)?[a-z]/.test(name) && !name.startsWith('node:'))
    .map((name) =>
      name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/'),
    );
}

/** Tests, and the folders of a package that only tests may use. */
function isTestOnly(path: string): boolean {
  return /\.(test|fixture)\.ts$/.test(path) || /\/(test|testing|testing\.ts|test-support)(\/|$)/.test(path);
}

const own = (name: string): string | undefined => name.match(/^@dstack-cloud\/(.+)$/)?.[1];

describe('layers', () => {
  test('every package has a place', () => {
    const known = [...Object.keys(layers), ...unlayered];
    expect(packages.map(({ name }) => name).filter((name) => !known.includes(name))).toEqual([]);
    expect(packages.length).toBeGreaterThan(10);
  });

  test.each(packages.filter(({ name }) => name in layers))(
    '$name imports only what lies below it',
    ({ name, manifest }) => {
      const wrong = Object.keys(manifest.dependencies ?? {})
        .map(own)
        .filter((dependency) => dependency !== undefined)
        .filter((dependency) => {
          const below = (layers[dependency] ?? 99) < (layers[name] ?? 0);
          return !below && !sameLayer[name]?.includes(dependency);
        });
      expect(wrong).toEqual([]);
    },
  );

  test.each(packages)('$name declares what it imports', ({ directory, manifest }) => {
    const files = sources(join(repository, directory, 'src'));
    const runtime = { ...manifest.dependencies, ...manifest.optionalDependencies };
    const root = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as Manifest;
    const wrong = files.flatMap((file) => {
      const allowed = isTestOnly(file)
        ? { ...runtime, ...manifest.devDependencies, ...root.devDependencies }
        : runtime;
      return importedPackages(file)
        .filter((name) => name !== manifest.name && !(name in allowed))
        .map((name) => `${relative(repository, file)} imports ${name}`);
    });
    expect(wrong).toEqual([]);
  });

  test.each(packages)('$name uses test helpers in tests alone', ({ directory }) => {
    const wrong = sources(join(repository, directory, 'src'))
      .filter((file) => !isTestOnly(file))
      .filter((file) =>
        /from '(\.\.?\/)+(.*\/)?(test|testing|test-support)\//.test(readFileSync(file, 'utf8')),
      )
      .map((file) => relative(repository, file));
    expect(wrong).toEqual([]);
  });

  test('no service and no part of the trusted ring imports the simulator', () => {
    const wrong = packages
      .filter(({ name }) => trustedRing.includes(name) || services.includes(name))
      .filter(({ manifest }) => '@dstack-cloud/tee-simulator' in (manifest.dependencies ?? {}))
      .map(({ name }) => name);
    expect(wrong).toEqual([]);
  });
});

describe('trusted ring', () => {
  const ring = packages.filter(({ name }) => trustedRing.includes(name));

  test.each(ring)('$name depends on nothing that is not on the list', ({ name, manifest }) => {
    const external = Object.keys({ ...manifest.dependencies, ...manifest.optionalDependencies }).filter(
      (dependency) => own(dependency) === undefined,
    );
    expect(external.filter((dependency) => !(dependency in trustedDependencies))).toEqual([]);
    expect(external.filter((dependency) => only[dependency]?.includes(name) === false)).toEqual([]);
  });

  test.each(ring)('$name pins exact versions', ({ manifest }) => {
    const versions = Object.entries({ ...manifest.dependencies, ...manifest.optionalDependencies });
    expect(versions.filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });
});
