import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { OsImageError } from '../errors.ts';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const debianPackage = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9.+-]{1,127}$/),
  version: z.string().regex(/^[A-Za-z0-9.+:~-]{1,128}$/),
  size: z
    .int()
    .positive()
    .max(512 * 1024 * 1024),
  sha256,
});

const schema = z.strictObject({
  schema: z.literal(1),
  /** Debian release that the packages come from. */
  suite: z.string().regex(/^[a-z]+$/),
  kernel: z.string().regex(/^[0-9][A-Za-z0-9.+~-]{1,63}$/),
  /** Node as an npm package; its tarball by Subresource Integrity. */
  node: z.strictObject({
    name: z.string().regex(/^[a-z0-9-]+$/),
    version: z.string().regex(/^\d+\.\d+\.\d+$/),
    integrity: z.string().regex(/^sha512-[A-Za-z0-9+/]{86}==$/),
  }),
  /** What the image consists of. */
  image: z.array(debianPackage).min(1).max(2000),
  /** What builds it: run from their own packages, so that every build gives the same bytes. */
  tools: z.array(debianPackage).min(1).max(2000),
});

/** A Debian package by name, version, size in bytes and SHA-256 in hex. */
export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  readonly size: number;
  readonly sha256: string;
}

export interface ImageLock {
  readonly schema: 1;
  readonly suite: string;
  readonly kernel: string;
  readonly node: { readonly name: string; readonly version: string; readonly integrity: string };
  readonly image: readonly LockedPackage[];
  readonly tools: readonly LockedPackage[];
}

/** Reads a lock file. @throws OsImageError `bad-lock` naming the member */
export async function readLock(path: string): Promise<ImageLock> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new OsImageError('bad-lock', `The lock file ${path} cannot be read`, { cause });
  }
  return parseLock(text, path);
}

export function parseLock(text: string, name = 'lock.json'): ImageLock {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new OsImageError('bad-lock', `${name} is not JSON`, { cause });
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issues = parsed.error.issues
      .slice(0, 3)
      .map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new OsImageError('bad-lock', `${name}: ${issues.join('; ')}`);
  }
  for (const list of ['image', 'tools'] as const) {
    const names = parsed.data[list].map((one) => one.name);
    const twice = names.find((one, index) => names.indexOf(one) !== index);
    if (twice !== undefined) throw new OsImageError('bad-lock', `${name}: ${list} names ${twice} twice`);
  }
  return parsed.data;
}

/** The text of a lock file: packages by name, one line each, so that a change reads well in a diff. */
export function formatLock(lock: ImageLock): string {
  const list = (packages: readonly LockedPackage[]) =>
    [...packages]
      .sort((a, b) => (a.name < b.name ? -1 : 1))
      .map(
        (one) =>
          `    ${JSON.stringify({ name: one.name, version: one.version, size: one.size, sha256: one.sha256 })}`,
      )
      .join(',\n');
  const { schema: version, suite, kernel, node } = lock;
  const head = [
    `  "schema": ${version},`,
    `  "suite": ${JSON.stringify(suite)},`,
    `  "kernel": ${JSON.stringify(kernel)},`,
    `  "node": ${JSON.stringify({ name: node.name, version: node.version, integrity: node.integrity })},`,
  ];
  return `{\n${head.join('\n')}\n  "image": [\n${list(lock.image)}\n  ],\n  "tools": [\n${list(lock.tools)}\n  ]\n}\n`;
}
