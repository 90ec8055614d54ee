import { PROGRAMS } from '../build/programs.ts';

/** One npm package of a release. */
export interface ReleasePackage {
  readonly name: string;
  readonly description: string;
  /** Programs by their names: source relative to the checkout. All are in the package, those of `commands` on the PATH. */
  readonly programs: Readonly<Record<string, string>>;
  readonly commands: readonly string[];
  /** Modules by the name of their export, `.` or `./name`: package of the checkout and source in it. */
  readonly modules: Readonly<Record<string, { readonly folder: string; readonly file: string }>>;
  /** Imported at run time, not bundled: installed beside, when the platform has it. */
  readonly optional: readonly string[];
  /** Not bundled, and installed by whoever uses that part. */
  readonly peers: readonly string[];
}

const only = (...names: string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [name, PROGRAMS[name]!]));
const NONE = { programs: {}, commands: [], modules: {}, optional: [], peers: [] } as const;

/** What `npm run release` makes. */
export const RELEASE_PACKAGES: readonly ReleasePackage[] = [
  {
    ...NONE,
    name: 'dstack-cloud',
    description:
      'Run Docker applications in hardware TEEs; release keys only to workloads that prove what they are',
    programs: PROGRAMS,
    commands: [
      'dstack-cloud',
      'dstack-kms',
      'dstack-auth-api',
      'dstack-vmm',
      'dstack-util',
      'dstack-tee-simulator',
    ],
    optional: ['koffi', 'secp256k1'],
  },
  {
    ...NONE,
    name: 'dstack-verifier',
    description: 'Verifies attestation evidence: as a service, one file at a time, or as a library',
    programs: only('dstack-verifier'),
    commands: ['dstack-verifier'],
    modules: { '.': { folder: 'packages/verifier', file: 'index' } },
    optional: ['secp256k1'],
  },
  {
    ...NONE,
    name: 'dstack-simulator',
    description: 'A guest agent without a TEE, for developing applications; it proves and protects nothing',
    programs: only('dstack-simulator', 'dstack-tee-simulator'),
    commands: ['dstack-simulator', 'dstack-tee-simulator'],
    optional: ['secp256k1'],
  },
  {
    ...NONE,
    name: 'dstack-conformance',
    description: 'Tests an agent, key service, verifier or gateway of any make from outside',
    programs: only('dstack-conformance'),
    commands: ['dstack-conformance'],
    optional: ['secp256k1'],
  },
  {
    ...NONE,
    name: '@dstack-cloud/sdk',
    description: 'Keys, evidence and attested TLS for applications in a TEE; verification for everybody else',
    modules: {
      '.': { folder: 'packages/sdk', file: 'index' },
      './viem': { folder: 'packages/sdk', file: 'viem' },
    },
    peers: ['viem'],
    optional: ['secp256k1'],
  },
];
