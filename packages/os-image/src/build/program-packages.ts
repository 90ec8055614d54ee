import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { OsImageError } from '../errors.ts';

/** An npm package of which something is in a program. */
export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  /** SPDX expression. */
  readonly license?: string | undefined;
  /** Subresource Integrity, SHA-512. */
  readonly integrity: string;
}

const schema = z.array(
  z.strictObject({
    name: z.string().min(1).max(214),
    version: z.string().min(1).max(256),
    license: z.string().optional(),
    integrity: z.string().regex(/^sha512-[A-Za-z0-9+/]{86}==$/),
  }),
);

/** The npm packages that programs were bundled from, as the build wrote them beside the programs. */
export async function programPackages(folder: string): Promise<NpmPackage[]> {
  try {
    return schema.parse(JSON.parse(await readFile(join(folder, '.packages.json'), 'utf8')));
  } catch (cause) {
    throw new OsImageError(
      'build-failed',
      `The programs that belong into the image are not in ${folder}, or without the list of their packages; run npm run build first`,
      { cause },
    );
  }
}
