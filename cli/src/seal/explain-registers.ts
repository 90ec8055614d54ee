import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import {
  composeHash,
  defaultAppId,
  HOST_SHARED_LIMITS,
  type InstanceInfo,
  instanceId,
  parseAppCompose,
  parseInstanceInfo,
  readFileBounded,
} from '@dstack-cloud/app';
import { identityEvents, replayRuntimeEvents } from '@dstack-cloud/attestation';
import { SEALED_PCR_NAMES, type SealRequest } from '@dstack-cloud/attestation/attester';
import { isZero, toHex, utf8 } from '@dstack-cloud/encoding';
import { type BootRegisters, bootRegisters, imageNames, readImage } from '@dstack-cloud/os-image';
import { loadGlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { findImage } from '../image/find-image.ts';
import { imageFolders } from '../image/places.ts';

const COMPONENTS_PCR = 2;
const IMAGE_PCR = 4;
const APPLICATION_PCR = 14;
const ZERO_PCRS: readonly number[] = [12, 13];

/** One register of a system that asks to be approved. */
export interface Register {
  readonly pcr: number;
  readonly what: string;
  /** What the seal has, as the refusal tells it; undefined when it did not change. */
  readonly before: string | undefined;
  readonly after: string;
  /** Why this value is right; undefined when nothing shows it. */
  readonly because: string | undefined;
  /** What the value before stood for, where that is known. */
  readonly was: string | undefined;
}

/** What the values are compared with. */
export interface Evidence {
  /** OS image that the system must boot; a production image of the search paths with the same register otherwise. */
  readonly image?: string | undefined;
  /** `app-compose.json` that it must run, and `.instance_info` of the machine. */
  readonly compose?: string | undefined;
  readonly instance?: string | undefined;
  /** Values that somebody knows, `PCR=HEX`. */
  readonly expected: ReadonlyMap<number, string>;
  /** Registers that somebody takes as they are: firmware alone, never what says which image and application run. */
  readonly accepted: ReadonlySet<number>;
}

/**
 * Says of each register why it is right. A request comes through the host, who may write anything into it: what nothing
 * explains is not approved. Without the image nothing else counts: any other system can extend the rest as it likes.
 *
 * @throws CliError `not_verified` for a register that has another value than it must have
 */
export async function explainRegisters(
  context: Context,
  { request, text, evidence }: { request: SealRequest; text: string; evidence: Evidence },
): Promise<Register[]> {
  for (const pcr of [IMAGE_PCR, APPLICATION_PCR])
    if (evidence.accepted.has(pcr))
      throw new CliError('usage', `PCR ${pcr} says which system asks, and is not taken as it is`, {
        found: `--accept ${pcr}`,
        hint: `Name what it should be with ${pcr === IMAGE_PCR ? '--image IMAGE' : '--compose FILE'}, or a value that you know with --expect ${pcr}=HEX`,
        exitCode: EXIT.usage,
      });
  const images = await imagesByRegister(context);
  const bootedBy = request.pcrs.find(({ index }) => index === IMAGE_PCR)?.value ?? new Uint8Array();
  const before = valuesBefore(text);
  const wantedImage = evidence.image === undefined ? undefined : await registerOf(context, evidence.image);
  const application = await applicationRegister(context, evidence);
  const image = wantedImage?.name ?? productionImage(images.get(toHex(bootedBy)));
  // Where PCR 4 does not show the image, PCR 2 does, as on Google Cloud.
  const mayAccept = (pcr: number) => pcr !== COMPONENTS_PCR || image !== undefined;
  const rows: Register[] = [];
  for (const { index, value } of request.pcrs) {
    const after = toHex(value);
    const must = (expected: string, of: string): string => {
      if (expected === after) return of;
      throw new CliError('not_verified', `PCR ${index} of this system is not that of ${of}`, {
        expected,
        found: after,
        hint: 'Nothing is signed: find out what the machine boots before you approve it',
        exitCode: EXIT.refused,
      });
    };
    const known = evidence.expected.get(index);
    let because: string | undefined;
    if (ZERO_PCRS.includes(index))
      because = must('00'.repeat(32), 'a system that takes nothing from beside the image (zero)');
    if (index === IMAGE_PCR)
      because = wantedImage === undefined ? image : must(wantedImage.pcr4, wantedImage.name);
    if (index === APPLICATION_PCR && application !== undefined)
      because = must(application.register, application.name);
    if (known !== undefined) because = must(known, '--expect');
    if (because === undefined && evidence.accepted.has(index) && mayAccept(index))
      because = 'taken as it is (--accept)';
    const old = before.get(index);
    rows.push({
      ...{ pcr: index, what: SEALED_PCR_NAMES[index] ?? 'other', after, because },
      before: old === after ? undefined : old,
      was: index === IMAGE_PCR && old !== undefined ? images.get(old)?.name : undefined,
    });
  }
  return rows;
}

/** The part of a refusal that tells the sealed values; nothing depends on it but what is shown. */
function valuesBefore(text: string): Map<number, string> {
  const found = text.matchAll(/PCR (\d{1,2}) \([a-z ]+\) was ([0-9a-f]{64}) and is [0-9a-f]{64}/g);
  return new Map([...found].map(([, index, value]) => [Number(index), value!]));
}

/** An image that has a value of PCR 4. */
interface NamedImage {
  readonly name: string;
  /** There is a shell on its console. */
  readonly isDev: boolean;
  readonly pcr4: string;
}

/** One that may explain a system by itself; an image for development has to be named. */
function productionImage(image: NamedImage | undefined): string | undefined {
  return image?.isDev ? undefined : image?.name;
}

async function registerOf(context: Context, name: string): Promise<NamedImage> {
  const { folder, version } = await findImage(context, name);
  const registers = await bootRegisters(join(folder, 'uki.efi'));
  if (registers !== undefined) return named(name, version, registers);
  throw new CliError(
    'not_verified',
    `The image ${name} has no unified kernel image that firmware could boot`,
    {
      expected: join(folder, 'uki.efi'),
      exitCode: EXIT.refused,
    },
  );
}

/** The measured command line decides what an image is for, not its description. */
function named(name: string, version: string, { pcr4, commandLine }: BootRegisters): NamedImage {
  const isDev = commandLine.split(' ').includes('dstack.flavour=dev');
  return { name: `image ${name} (${version}${isDev ? ', for development' : ''})`, isDev, pcr4 };
}

/** The images in the search paths by what they leave in PCR 4; damaged ones are left out. */
async function imagesByRegister(context: Context): Promise<Map<string, NamedImage>> {
  const found = new Map<string, NamedImage>();
  for (const folder of imageFolders(context, await loadGlobalConfig(context)))
    for (const name of await imageNames(folder)) {
      const path = join(folder, name);
      const registers = await bootRegisters(join(path, 'uki.efi')).catch(() => undefined);
      if (registers === undefined || found.has(registers.pcr4)) continue;
      const version = await readImage(path).then(
        (image) => image.version,
        () => undefined,
      );
      if (version !== undefined) found.set(registers.pcr4, named(name, version, registers));
    }
  return found;
}

/** PCR 14 as the guest makes it of these files, in the order of its boot. */
async function applicationRegister(
  context: Context,
  { compose, instance }: Evidence,
): Promise<{ name: string; register: string } | undefined> {
  if (compose === undefined) return undefined;
  const bytes = await readFileBounded(
    resolve(context.directory, compose),
    HOST_SHARED_LIMITS['app-compose.json'],
  );
  const app = parseAppCompose(bytes);
  const hash = composeHash(bytes);
  const info = instance === undefined ? undefined : await readInstance(context, instance);
  if (!app.noInstanceId && info?.instanceIdSeed === undefined)
    throw new CliError('bad_argument', `${compose} has an instance id, which PCR 14 depends on`, {
      expected: '--instance FILE, the .instance_info of the machine with its instance_id_seed',
      exitCode: EXIT.usage,
    });
  const appId = app.keyProvider === 'kms' ? (info?.appId ?? defaultAppId(hash)) : defaultAppId(hash);
  const id =
    app.noInstanceId || info?.instanceIdSeed === undefined
      ? new Uint8Array(0)
      : instanceId(info.instanceIdSeed, info.appId ?? defaultAppId(hash));
  const initScriptHashes = app.initScripts.map(
    (script) => new Uint8Array(createHash('sha256').update(utf8(script)).digest()),
  );
  const identity = { appId, composeHash: hash, initScriptHashes, instanceId: id };
  const register = toHex(replayRuntimeEvents(identityEvents(identity, app.eventLogVersion), 'sha256'));
  const of = isZero(id) ? '' : `, instance ${toHex(id)}`;
  return { name: `${compose} (compose hash ${toHex(hash)}${of})`, register };
}

async function readInstance(context: Context, name: string): Promise<InstanceInfo> {
  return parseInstanceInfo(
    await readFileBounded(resolve(context.directory, name), HOST_SHARED_LIMITS['.instance_info']),
  );
}
