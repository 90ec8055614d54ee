import { join } from 'node:path';
import { AppError, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { z } from 'zod';
import { VmmError } from '../../errors.ts';

const FILE = 'vmm-service.json';
const MAX_BYTES = 64 * 1024;

/** What the service keeps of a machine beside what the driver does, in its folder: nothing that an update changes. */
export interface ServiceRecord {
  readonly schema: 1;
  /** Whether the machine is to run. It is started again until somebody stops it, or it stops by itself. */
  readonly started: boolean;
}

const schema: z.ZodType<ServiceRecord> = z.strictObject({
  schema: z.literal(1),
  started: z.boolean(),
});

/** What a machine that the service has no record of yet counts as: one that was made and not started. */
export const NO_RECORD: ServiceRecord = { schema: 1, started: false };

/** The record of the machine in `dir`; only a missing file is none. @throws VmmError `damaged` */
export async function readRecord(dir: string): Promise<ServiceRecord> {
  const path = join(dir, FILE);
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, MAX_BYTES, { noFollow: true });
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return NO_RECORD;
    throw new VmmError('damaged', (cause as Error).message, { cause });
  }
  try {
    return schema.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new VmmError('damaged', `${path} is damaged`, { cause });
  }
}

export async function writeRecord(dir: string, record: ServiceRecord): Promise<void> {
  await writeFileAtomic(join(dir, FILE), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
}
