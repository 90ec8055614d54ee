/** A service that is made into a container image. */
export interface ContainerProgram {
  readonly title: string;
  readonly description: string;
  /** TCP ports that it listens on by default. */
  readonly ports: readonly number[];
}

/** The services by the name of their program. */
export const CONTAINER_PROGRAMS: Readonly<Record<string, ContainerProgram>> = {
  'dstack-kms': {
    title: 'dstack-kms',
    description: 'Key service: releases keys only to workloads that prove by attestation what they are',
    ports: [8000],
  },
  'dstack-auth-api': {
    title: 'dstack-auth-api',
    description: 'Authorization webhook of the key service, answered from the chain or an allow-list',
    ports: [8000],
  },
  'dstack-verifier': {
    title: 'dstack-verifier',
    description: 'Verifies the attestation of machines and applications',
    ports: [8080],
  },
};

/** Packages of the image lock that a container takes files from. */
export const CONTAINER_PACKAGES: readonly string[] = [
  'ca-certificates',
  'libc6',
  'libgcc-s1',
  'libstdc++6',
  // Has the copyright file of the two before.
  'gcc-14-base',
];

/** Of the tools of the lock, what builds containers: gzip, strip, readelf, and the libraries of these. */
export const CONTAINER_TOOLS: readonly string[] = [
  ...['gzip', 'binutils-x86-64-linux-gnu', 'binutils-common', 'libbinutils', 'libctf0', 'libctf-nobfd0'],
  ...['libsframe1', 'libjansson4', 'libzstd1', 'zlib1g', 'libc6'],
];

/** What Node needs at run time, the roots of the web, and licences: no shell, no package manager, no other program. */
const WANTED =
  /^\/usr\/(lib\/x86_64-linux-gnu\/(ld-linux-x86-64|libc|libm|libdl|libpthread|librt|libresolv|libnss_dns|libnss_files|libstdc\+\+|libgcc_s)\.so(\.[0-9.]+)?|lib64\/ld-linux-x86-64\.so\.2|share\/ca-certificates\/.*|share\/doc\/[^/]+\/copyright)$/;

export function isWanted(path: string): boolean {
  return WANTED.test(path.replace(/^\/lib(64)?\//, '/usr/lib$1/'));
}

/** The user that services run as. */
export const CONTAINER_USER = { name: 'dstack', id: 10_001, home: '/var/lib/dstack' } as const;
