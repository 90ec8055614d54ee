import { join } from 'node:path';
import { AppError, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { type BuiltEif, measurementsFile } from '@dstack-cloud/eif';
import { z } from 'zod';

/** Folder of a project with what its enclave was built to. */
export const OUTPUT_FOLDER = 'output';
const FILE = 'measurements.json';
const MAX_BYTES = 64 * 1024;

/** What an enclave image was built from. */
export interface EnclaveSources {
  readonly kms_url: string | null;
  readonly app_id: string | null;
  readonly root_ca_sha256: string | null;
  /** Over everything that the image was made of. */
  readonly source_sha256: string;
}

const schema = z.looseObject({
  OS_IMAGE_HASH: z.string().regex(/^0x[0-9a-f]{64}$/),
  inputs: z.looseObject({ source_sha256: z.string() }),
});

/** Writes `output/measurements.json`: what nitro-cli prints, OS_IMAGE_HASH, and what it was built from. */
export async function writeMeasurements(
  project: string,
  { pcrs, pcr8 }: Pick<BuiltEif, 'pcrs' | 'pcr8'>,
  inputs: EnclaveSources,
): Promise<void> {
  const text = `${JSON.stringify({ ...measurementsFile(pcrs, pcr8), inputs }, null, 2)}\n`;
  await writeFileAtomic(join(project, OUTPUT_FOLDER, FILE), text, { mode: 0o644 });
}

/** What was built last; undefined when nothing was, or what lies there is none of ours. */
export async function lastBuilt(
  project: string,
): Promise<{ readonly osImageHash: string; readonly source: string } | undefined> {
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(join(project, OUTPUT_FOLDER, FILE), MAX_BYTES);
  } catch (error) {
    if (error instanceof AppError) return undefined;
    throw error;
  }
  try {
    const found = schema.parse(JSON.parse(new TextDecoder().decode(bytes)));
    return { osImageHash: found.OS_IMAGE_HASH.slice(2), source: found.inputs.source_sha256 };
  } catch {
    return undefined;
  }
}
