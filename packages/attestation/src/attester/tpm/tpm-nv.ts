import { ByteReader, ByteWriter } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import type { Tpm } from './tpm.ts';
import { ALG, HANDLE, NV_OWNER_ATTRIBUTES, RC } from './tpm-constants.ts';
import { TpmResponseError } from './tpm-response-error.ts';
import { EMPTY_PASSWORD } from './tpm-session.ts';
import { take2b, tpm2b } from './tpm-structures.ts';

/** TPMs take at most 1024 bytes of NV data a command. */
const CHUNK = 1024;
const MAX_NV_BYTES = 16_384;
/** TPMA_NV_WRITTEN. */
const NV_WRITTEN = 0x20000000;

export interface NvPublic {
  readonly attributes: number;
  /** Bytes. */
  readonly size: number;
}

/** What is defined at an NV index; undefined when nothing is. @throws AttestationError `device` */
export async function nvReadPublic(tpm: Tpm, index: number): Promise<NvPublic | undefined> {
  try {
    const { parameters } = await tpm.execute({ code: 'nvReadPublic', handles: [index] });
    const reader = new ByteReader(take2b(parameters));
    reader.u32be();
    reader.u16be();
    const attributes = reader.u32be();
    take2b(reader);
    const size = reader.u16be();
    reader.finish();
    return { attributes, size };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/**
 * Everything at an NV index; undefined when nothing is defined there, or nothing was written to it yet.
 * @throws AttestationError `device`
 */
export async function nvRead(tpm: Tpm, index: number): Promise<Uint8Array | undefined> {
  const defined = await nvReadPublic(tpm, index);
  if (!defined) return undefined;
  if (defined.size > MAX_NV_BYTES) throw new AttestationError('device', `NV index of ${defined.size} bytes`);
  const data = new Uint8Array(defined.size);
  if ((defined.attributes & NV_WRITTEN) === 0) return undefined;
  for (let offset = 0; offset < data.length; offset += CHUNK) {
    const length = Math.min(CHUNK, data.length - offset);
    data.set(await readChunk(tpm, index, offset, length), offset);
  }
  return data;
}

/** With the owner's authorisation; if that is refused, with the index's own, as Google's indices want it. */
async function readChunk(tpm: Tpm, index: number, offset: number, length: number): Promise<Uint8Array> {
  const read = async (authority: number): Promise<Uint8Array> => {
    const { parameters } = await tpm.execute({
      code: 'nvRead',
      handles: [authority, index],
      authorisations: [EMPTY_PASSWORD],
      parameters: new ByteWriter().u16be(length).u16be(offset).finish(),
    });
    const chunk = take2b(parameters);
    parameters.finish();
    if (chunk.length !== length) throw new AttestationError('device', 'The TPM gave less NV data than asked');
    return chunk;
  };
  try {
    return await read(HANDLE.owner);
  } catch (error) {
    if (!(error instanceof TpmResponseError)) throw error;
    return await read(index);
  }
}

/** Defines an index of the owner, as dstack does: owner reads and writes, no policy. @throws AttestationError `device` */
export async function nvDefine(
  tpm: Tpm,
  index: number,
  size: number,
  options: { attributes?: number; authority?: number } = {},
): Promise<void> {
  const publicArea = new ByteWriter()
    .u32be(index)
    .u16be(ALG.sha256)
    .u32be(options.attributes ?? NV_OWNER_ATTRIBUTES)
    .u16be(0)
    .u16be(size)
    .finish();
  await tpm.execute({
    code: 'nvDefineSpace',
    handles: [options.authority ?? HANDLE.owner],
    authorisations: [EMPTY_PASSWORD],
    parameters: new ByteWriter().u16be(0).bytes(tpm2b(publicArea)).finish(),
  });
}

export async function nvUndefine(tpm: Tpm, index: number): Promise<void> {
  await tpm.execute({
    code: 'nvUndefineSpace',
    handles: [HANDLE.owner, index],
    authorisations: [EMPTY_PASSWORD],
  });
}

/** Writes from the start of an index that is large enough. @throws AttestationError `device` */
export async function nvWrite(
  tpm: Tpm,
  index: number,
  data: Uint8Array,
  authority: number = HANDLE.owner,
): Promise<void> {
  for (let offset = 0; offset < data.length; offset += CHUNK) {
    await tpm.execute({
      code: 'nvWrite',
      handles: [authority, index],
      authorisations: [EMPTY_PASSWORD],
      parameters: new ByteWriter()
        .bytes(tpm2b(data.subarray(offset, offset + CHUNK)))
        .u16be(offset)
        .finish(),
    });
  }
}

/** Whether an error says that the handle names nothing (TPM_RC_HANDLE, for whichever handle). */
export function isMissing(error: unknown): boolean {
  return (
    error instanceof TpmResponseError && [RC.handle1, RC.handle2].some((rc) => rc === error.responseCode)
  );
}
