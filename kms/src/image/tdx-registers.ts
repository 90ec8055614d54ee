import { createHash } from 'node:crypto';
import { mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import {
  AttestationError,
  MAX_FIRMWARE_BYTES,
  measureTdxImage,
  type TdxRegisterRequest,
  type TdxRegisterSource,
  type TdxRegisters,
} from '@dstack-cloud/attestation';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import type { Log } from '../telemetry/log.ts';
import { type ImageStore, readImageMetadata } from './image-store.ts';
import { hashFile } from './unpack-image.ts';

const MAX_KERNEL_BYTES = 256 * 1024 * 1024;
const MAX_CACHE_BYTES = 4096;

const register = z.string().regex(/^[0-9a-f]{96}$/);
const cached = z.object({
  version: z.literal(1),
  measurements: z.object({ mrtd: register, rtmr0: register, rtmr1: register, rtmr2: register }),
});

type Hash = Parameters<typeof measureTdxImage>[2]['hash'];
const hash: Hash = (algorithm, ...parts) => {
  const digest = createHash(algorithm);
  for (const part of parts) digest.update(part);
  return new Uint8Array(digest.digest());
};

/**
 * Registers of OS images without a measurement document: from the cache, else from the image itself, which is
 * downloaded if need be (chapter 10 section 5.4). A cache that cannot be read or written is only a warning.
 */
export function tdxRegisterSource(images: ImageStore, cacheDirectory: string, log: Log): TdxRegisterSource {
  return async (request) => {
    const name = createHash('sha256').update(request.key).digest('hex');
    const path = join(cacheDirectory, 'measurements', `${name}.json`);
    const known = await readCache(path);
    if (known !== undefined) return known;
    const registers = await measure(images, request);
    await writeCache(path, registers).catch((error: unknown) => {
      log.warn(
        { reason: error instanceof Error ? error.message : String(error) },
        'measurement cache cannot be written',
      );
    });
    return registers;
  };
}

async function measure(images: ImageStore, request: TdxRegisterRequest): Promise<TdxRegisters> {
  const directory = await images.directoryOf(request.osImageHash);
  const { cmdline, kernel, initrd, bios } = await readImageMetadata(directory);
  const initrdPath = join(directory, initrd);
  const measured = measureTdxImage(
    {
      firmware: await readPart(join(directory, bios), MAX_FIRMWARE_BYTES),
      kernel: await readPart(join(directory, kernel), MAX_KERNEL_BYTES),
      initrd: { bytes: (await statPart(initrdPath)).size, sha384: await hashFile(initrdPath, 'sha384') },
      commandLine: cmdline,
    },
    request.memory,
    { hash },
  );
  return request.compute(measured);
}

async function readPart(path: string, max: number): Promise<Uint8Array> {
  return readFileBounded(path, max).catch((cause: unknown) => {
    throw new AttestationError('image', 'A file that metadata.json names is not in the OS image', { cause });
  });
}

async function statPart(path: string): Promise<{ size: number }> {
  return stat(path).catch((cause: unknown) => {
    throw new AttestationError('image', 'The OS image lacks its initrd', { cause });
  });
}

async function readCache(path: string): Promise<TdxRegisters | undefined> {
  try {
    const text = utf8Text(await readFileBounded(path, MAX_CACHE_BYTES));
    const { mrtd, rtmr0, rtmr1, rtmr2 } = cached.parse(JSON.parse(text)).measurements;
    return { mrtd: fromHex(mrtd), rtmr0: fromHex(rtmr0), rtmr1: fromHex(rtmr1), rtmr2: fromHex(rtmr2) };
  } catch {
    // Missing or damaged: it is computed again.
    return undefined;
  }
}

async function writeCache(path: string, registers: TdxRegisters): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const measurements = Object.fromEntries(
    (['mrtd', 'rtmr0', 'rtmr1', 'rtmr2'] as const).map((name) => [name, toHex(registers[name])]),
  );
  await writeFileAtomic(path, JSON.stringify({ version: 1, measurements }), { mode: 0o644 });
}
