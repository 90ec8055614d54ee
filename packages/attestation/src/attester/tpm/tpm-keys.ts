import { ByteWriter } from '@dstack-cloud/encoding';
import type { Tpm } from './tpm.ts';
import { ALG, HANDLE } from './tpm-constants.ts';
import { isMissing } from './tpm-nv.ts';
import { type Authorisation, EMPTY_PASSWORD } from './tpm-session.ts';
import { take2b, tpm2b } from './tpm-structures.ts';

/** TPM2B_SENSITIVE_CREATE with an empty password and this data. */
const sensitive = (data: Uint8Array): Uint8Array =>
  tpm2b(new ByteWriter().u16be(0).bytes(tpm2b(data)).finish());

export interface LoadedObject {
  readonly handle: number;
  /** TPMT_PUBLIC. */
  readonly publicArea: Uint8Array;
  readonly name: Uint8Array;
}

/**
 * Makes a primary key of a hierarchy from a template (TPMT_PUBLIC); the same template gives the same key. It is
 * flushed at the end.
 */
export async function createPrimary(
  tpm: Tpm,
  hierarchy: 'owner' | 'endorsement',
  template: Uint8Array,
): Promise<LoadedObject> {
  const { handle, parameters } = await tpm.execute({
    code: 'createPrimary',
    handles: [HANDLE[hierarchy]],
    authorisations: [EMPTY_PASSWORD],
    // No outside information, no creation PCRs.
    parameters: new ByteWriter()
      .bytes(sensitive(new Uint8Array()))
      .bytes(tpm2b(template))
      .u16be(0)
      .u32be(0)
      .finish(),
    returnsHandle: true,
  });
  tpm.track(handle);
  const publicArea = take2b(parameters).slice();
  take2b(parameters); // creation data
  take2b(parameters); // creation hash
  parameters.u16be(); // creation ticket: tag, hierarchy, digest
  parameters.u32be();
  take2b(parameters);
  const name = take2b(parameters).slice();
  parameters.finish();
  return { handle, publicArea, name };
}

/** A new object, as the TPM gives it out, and the TPM's word on the system that made it. */
export interface CreatedObject {
  readonly publicArea: Uint8Array;
  readonly privateArea: Uint8Array;
  /** TPMS_CREATION_DATA: the registers at that moment among it. */
  readonly creationData: Uint8Array;
  /** TPMT_TK_CREATION. */
  readonly creationTicket: Uint8Array;
}

/**
 * Seals data under a storage key: a keyedHash object made from `template`; `session` encrypts the data on its way.
 * @param creationPcrs selection of registers, TPML_PCR_SELECTION, that the creation data has
 */
export async function createSealed(
  tpm: Tpm,
  parent: Pick<LoadedObject, 'handle' | 'name'>,
  template: Uint8Array,
  data: Uint8Array,
  session: Authorisation,
  creationPcrs: Uint8Array,
): Promise<CreatedObject> {
  const { parameters } = await tpm.execute({
    code: 'create',
    handles: [parent.handle],
    names: [parent.name],
    authorisations: [EMPTY_PASSWORD, session],
    parameters: new ByteWriter()
      .bytes(sensitive(data))
      .bytes(tpm2b(template))
      .u16be(0)
      .bytes(creationPcrs)
      .finish(),
  });
  const privateArea = take2b(parameters).slice();
  const publicArea = take2b(parameters).slice();
  const creationData = take2b(parameters).slice();
  take2b(parameters); // creation hash, which follows from the data
  const [tag, hierarchy] = [parameters.u16be(), parameters.u32be()];
  const ticket = new ByteWriter()
    .u16be(tag)
    .u32be(hierarchy)
    .bytes(tpm2b(take2b(parameters)));
  parameters.finish();
  return { publicArea, privateArea, creationData, creationTicket: ticket.finish() };
}

/**
 * Has the TPM check its ticket for the creation of a loaded object (TPM 2.0 Part 3 section 18.3); nothing is signed.
 * @throws TpmResponseError `TPM_RC_TICKET` when the object was not made so
 */
export async function certifyCreation(
  tpm: Tpm,
  handle: number,
  creation: { readonly creationHash: Uint8Array; readonly creationTicket: Uint8Array },
): Promise<void> {
  await tpm.execute({
    code: 'certifyCreation',
    handles: [HANDLE.null, handle],
    authorisations: [EMPTY_PASSWORD],
    parameters: new ByteWriter()
      .bytes(tpm2b(new Uint8Array()))
      .bytes(tpm2b(creation.creationHash))
      .u16be(ALG.null)
      .bytes(creation.creationTicket)
      .finish(),
  });
}

/** Loads an object below its parent; it is flushed at the end. */
export async function loadObject(
  tpm: Tpm,
  parent: number,
  object: { publicArea: Uint8Array; privateArea: Uint8Array },
): Promise<LoadedObject> {
  const { handle, parameters } = await tpm.execute({
    code: 'load',
    handles: [parent],
    authorisations: [EMPTY_PASSWORD],
    parameters: new ByteWriter().bytes(tpm2b(object.privateArea)).bytes(tpm2b(object.publicArea)).finish(),
    returnsHandle: true,
  });
  tpm.track(handle);
  const name = take2b(parameters).slice();
  parameters.finish();
  return { handle, publicArea: object.publicArea, name };
}

/** The data of a loaded sealed object. @throws TpmResponseError when the policy is not met */
export async function unseal(
  tpm: Tpm,
  object: Pick<LoadedObject, 'handle' | 'name'>,
  session: Authorisation,
): Promise<Uint8Array> {
  const { parameters } = await tpm.execute({
    code: 'unseal',
    handles: [object.handle],
    names: [object.name],
    authorisations: [session],
  });
  const data = take2b(parameters).slice();
  parameters.finish();
  return data;
}

/** Public area and name of a loaded or persistent object; undefined when the handle names none. */
export async function readPublic(tpm: Tpm, handle: number): Promise<LoadedObject | undefined> {
  try {
    const { parameters } = await tpm.execute({ code: 'readPublic', handles: [handle] });
    const publicArea = take2b(parameters).slice();
    const name = take2b(parameters).slice();
    take2b(parameters); // qualified name
    parameters.finish();
    return { handle, publicArea, name };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Gives a loaded object of the owner a handle that survives restarts; a persistent one is removed so. */
export async function evictControl(tpm: Tpm, handle: number, persistent: number): Promise<void> {
  await tpm.execute({
    code: 'evictControl',
    handles: [HANDLE.owner, handle],
    authorisations: [EMPTY_PASSWORD],
    parameters: new ByteWriter().u32be(persistent).finish(),
  });
}
