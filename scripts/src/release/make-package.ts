import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bundle, moduleFile } from './bundle.ts';
import { declarations } from './declarations.ts';
import type { ReleasePackage } from './packages.ts';
import { writeTarball } from './write-tarball.ts';

const NODE = { major: 20, minor: 19 };

/** A tarball and what is in it. */
export interface MadePackage {
  /** `dstack-cloud-0.1.0`; scopes are joined by a dash, as npm does. */
  readonly stem: string;
  readonly tarball: Uint8Array;
  /** CycloneDX, JSON. */
  readonly billOfMaterials: string;
}

/** Makes the tarball of a package. */
export async function makePackage(
  repository: string,
  wanted: ReleasePackage,
  version: string,
): Promise<MadePackage> {
  const { files, contains } = await bundle(repository, wanted);
  const all = new Map(files);
  for (const name of wanted.commands) all.set(`bin/${name}.cjs`, launcher(name));
  for (const { folder, file } of Object.values(wanted.modules))
    for (const [path, text] of declarations(repository, folder, file)) all.set(path, text);
  all.set('package.json', await manifest(repository, wanted, version));
  all.set('LICENSE', await readFile(join(repository, 'LICENSE'), 'utf8'));
  all.set('README.md', `# ${wanted.name}\n\n${wanted.description}.\n`);
  return packed(wanted.name, version, all, contains);
}

/** A package of data alone: the contracts' ABI and code. */
export async function makeContracts(
  artifacts: ReadonlyMap<string, string>,
  repository: string,
  version: string,
): Promise<MadePackage> {
  const name = '@dstack-cloud/contracts';
  const description = 'ABI and code of the contracts DstackKms and DstackApp';
  const exports = { './*.json': './*.json' };
  const document = { name, version, description, license: 'Apache-2.0', exports };
  const all = new Map(artifacts);
  all.set('package.json', `${JSON.stringify(document, null, 2)}\n`);
  all.set('LICENSE', await readFile(join(repository, 'LICENSE'), 'utf8'));
  all.set('README.md', `# ${name}\n\n${description}.\n`);
  return packed(name, version, all, []);
}

async function packed(
  name: string,
  version: string,
  files: ReadonlyMap<string, string>,
  contains: Awaited<ReturnType<typeof bundle>>['contains'],
): Promise<MadePackage> {
  return {
    stem: `${name.replace('@', '').replace('/', '-')}-${version}`,
    tarball: await writeTarball(files),
    billOfMaterials: billOfMaterials(name, version, contains),
  };
}

/** CommonJS that every Node can read: one that is too old is told so in one sentence. */
function launcher(name: string): string {
  const { major, minor } = NODE;
  return `#!/usr/bin/env node
'use strict';
var version = process.versions.node.split('.').map(Number);
if (version[0] < ${major} || (version[0] === ${major} && version[1] < ${minor})) {
  console.error('${name} needs Node ${major}.${minor} or newer, and this is ' + process.version);
  process.exit(1);
}
import('../lib/${name}.js').catch(function (error) {
  console.error(error);
  process.exitCode = 1;
});
`;
}

async function manifest(repository: string, wanted: ReleasePackage, version: string): Promise<string> {
  const { packages } = JSON.parse(await readFile(join(repository, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version?: string } | undefined>;
  };
  const locked = (names: readonly string[]) =>
    Object.fromEntries(names.map((name) => [name, packages[`node_modules/${name}`]?.version ?? '*']));
  const exported = Object.entries(wanted.modules).map(([name, { folder, file }]) => [
    name,
    { types: `./types/${folder}/${file}.d.ts`, default: `./lib/${moduleFile(name)}.js` },
  ]);
  const document = {
    name: wanted.name,
    version,
    description: wanted.description,
    license: 'Apache-2.0',
    type: 'module',
    engines: { node: `>=${NODE.major}.${NODE.minor}` },
    ...(wanted.commands.length > 0 && {
      bin: Object.fromEntries(wanted.commands.map((name) => [name, `bin/${name}.cjs`])),
    }),
    ...(exported.length > 0 && { exports: Object.fromEntries(exported) }),
    ...(wanted.optional.length > 0 && { optionalDependencies: locked(wanted.optional) }),
    ...(wanted.peers.length > 0 && {
      peerDependencies: locked(wanted.peers),
      peerDependenciesMeta: Object.fromEntries(wanted.peers.map((name) => [name, { optional: true }])),
    }),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** CycloneDX 1.6, without a time or serial number, so that it is reproducible. */
function billOfMaterials(
  name: string,
  version: string,
  contains: Awaited<ReturnType<typeof bundle>>['contains'],
): string {
  const purl = (one: string, of: string) => `pkg:npm/${one.replace('@', '%40')}@${of}`;
  const document = {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: {
      component: {
        type: 'library',
        'bom-ref': purl(name, version),
        name,
        version,
        purl: purl(name, version),
      },
    },
    components: contains.map((one) => ({
      type: 'library',
      'bom-ref': purl(one.name, one.version),
      name: one.name,
      version: one.version,
      hashes: [
        {
          alg: 'SHA-512',
          content: Buffer.from(one.integrity.slice('sha512-'.length), 'base64').toString('hex'),
        },
      ],
      ...(one.license === undefined ? {} : { licenses: [{ expression: one.license }] }),
      purl: purl(one.name, one.version),
    })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
