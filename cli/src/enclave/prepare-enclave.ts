import { mkdir, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { asComposeHash, defaultAppId } from '@dstack-cloud/app';
import {
  buildEif,
  measurementsFile,
  openBootFiles,
  openSource,
  osImageHash,
  type Pcrs,
  readEif,
} from '@dstack-cloud/eif';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { removeAbandoned, temporaryName } from '@dstack-cloud/files';
import { enclaveProgramsDirectory } from '@dstack-cloud/vmm';
import type { GlobalConfig } from '../config/global-config.ts';
import type { Context } from '../context.ts';
import { defaultBlobs, sourceDate } from '../eif/build-defaults.ts';
import { CliError } from '../errors.ts';
import type { Project } from '../project/app-config.ts';
import { appPolicyHash } from '../project/app-policy-hash.ts';
import { enclaveFilePath } from '../project/project-path.ts';
import type { Prepared } from '../project/shared-files.ts';
import { VERSION } from '../version.ts';
import { fileHash, stageContext } from './build-context.ts';
import { OUTPUT_FOLDER, writeMeasurements } from './built-enclave.ts';
import { buildDockerImage } from './docker-image.ts';
import { type EnclaveKms, enclaveKms, readRootCa } from './enclave-inputs.ts';

const MIB = 2 ** 20;
/** nitro-cli refuses an enclave with less memory than this many times its image. */
const MEMORY_FACTOR = 4;

/** An enclave image of a project, built and measured. */
interface PreparedEnclave {
  readonly file: string;
  readonly size: number;
  readonly pcrs: Pcrs;
  /** What the host must let through for its keys. */
  readonly kms: EnclaveKms | undefined;
  /** As nitro-cli prints them, and the hash for the contracts. */
  readonly measurements: ReturnType<typeof measurementsFile>;
}

/** What a deployment of an enclave is: the image is the application, so one hash is both. */
export interface PreparedNitro extends Prepared {
  readonly enclave: PreparedEnclave;
}

/** Whether what was prepared is an enclave image. */
export function isEnclave(prepared: Prepared): prepared is PreparedNitro {
  return 'enclave' in prepared;
}

/** PCR 0, 1, 2 and, of a signed image, 8. */
export function registersOf({ enclave }: PreparedNitro): Record<string, string> {
  const { HashAlgorithm: _, ...registers } = enclave.measurements.Measurements;
  return registers;
}

/** One build for all that a command asks; a command that changes app.json builds again. */
const builds = new WeakMap<Project, Promise<PreparedNitro>>();

/**
 * Builds and measures the enclave image of a project into `output/`, without AWS.
 *
 * @throws CliError, EifError
 */
export async function prepareEnclave(
  context: Context,
  config: GlobalConfig,
  project: Project,
): Promise<PreparedNitro> {
  if (project.problem !== undefined) throw project.problem;
  const known = builds.get(project);
  if (known !== undefined) return await known;
  const made = prepare(context, config, project);
  builds.set(project, made);
  return await made;
}

async function prepare(context: Context, config: GlobalConfig, project: Project): Promise<PreparedNitro> {
  const warnings: string[] = [];
  const kms = enclaveKms(config, project);
  const rootCa = kms === undefined ? undefined : await readRootCa(project);
  const output = join(project.directory, OUTPUT_FOLDER);
  await mkdir(output, { recursive: true });
  removeAbandoned(output);
  const built = await imageOf({ context, config, project, kms, output, warnings });
  const inputs = {
    kms_url: kms?.kmsUrl ?? null,
    app_id: kms === undefined ? null : `0x${kms.appId}`,
    root_ca_sha256: rootCa === undefined ? null : await fileHash(await enclaveFilePath(project, 'root_ca')),
    source_sha256: built.source,
  };
  await writeMeasurements(project.directory, { pcrs: built.pcrs, pcr8: built.pcr8 }, inputs);
  const { memory_mib: memory } = project.config.nitro_config;
  const needed = Math.ceil((MEMORY_FACTOR * built.size) / MIB);
  if (memory < needed)
    throw new CliError('bad_app_json', 'The enclave has too little memory for its image', {
      expected: `nitro_config.memory_mib of ${needed} or more: ${MEMORY_FACTOR} times the image`,
      found: String(memory),
      hint: 'Raise nitro_config.memory_mib in app.json, or leave out of the image what the application does not need',
    });
  const hash = osImageHash(built.pcrs);
  return {
    files: {},
    composeHash: hash,
    appPolicyHash: appPolicyHash(true, { composeHash: hash, osImageHash: hash }),
    osImageHash: hash,
    appId: kms?.appId ?? toHex(defaultAppId(asComposeHash(fromHex(hash)))),
    instanceId: '',
    allowedEnvs: [],
    warnings,
    blockers: [],
    enclave: {
      file: built.file,
      size: built.size,
      pcrs: built.pcrs,
      kms,
      measurements: measurementsFile(built.pcrs, built.pcr8),
    },
  };
}

/**
 * What the image of the project would be made of now, without making it: comparable to what `output/measurements.json`
 * has. Undefined where only a build tells.
 */
export async function sourceHash(
  context: Context,
  config: GlobalConfig,
  project: Project,
): Promise<string | undefined> {
  const { eif, image } = project.config.nitro_config;
  const given =
    eif !== '' ? await existing(project, 'eif') : image !== '' ? await existing(project, 'image') : '';
  if (given !== '') return (await stat(given)).isFile() ? await fileHash(given) : undefined;
  context.debug('Reading what the container image is built from');
  const output = join(project.directory, OUTPUT_FOLDER);
  await mkdir(output, { recursive: true });
  removeAbandoned(output);
  const staged = join(output, temporaryName('build'));
  await mkdir(staged, { mode: 0o700 });
  try {
    const folder = join(staged, 'context');
    return await stageContext(
      project.directory,
      folder,
      enclaveProgramsDirectory(),
      enclaveKms(config, project),
    );
  } finally {
    await rm(staged, { recursive: true, force: true });
  }
}

interface Build {
  readonly context: Context;
  readonly config: GlobalConfig;
  readonly project: Project;
  readonly kms: EnclaveKms | undefined;
  readonly output: string;
  readonly warnings: string[];
}

interface BuiltImage {
  readonly file: string;
  readonly size: number;
  readonly pcrs: Pcrs;
  readonly pcr8: Uint8Array | undefined;
  readonly source: string;
}

async function imageOf(build: Build): Promise<BuiltImage> {
  const { project, output } = build;
  const { eif, image } = project.config.nitro_config;
  if (eif !== '') return await readBuilt(await existing(project, 'eif'));
  if (image !== '') return await fromContainer(build, await existing(project, 'image'));
  const { dockerfile } = project.config.nitro_config;
  await enclaveFilePath(project, 'dockerfile');
  const staged = join(output, temporaryName('build'));
  await mkdir(staged, { mode: 0o700 });
  try {
    const folder = join(staged, 'context');
    const source = await stageContext(project.directory, folder, enclaveProgramsDirectory(), build.kms);
    build.context.info('Building the container image');
    const archive = join(staged, 'image.tar');
    await buildDockerImage(build.context, { folder, dockerfile, output: archive });
    return { ...(await fromContainer(build, archive)), source };
  } finally {
    await rm(staged, { recursive: true, force: true });
  }
}

async function readBuilt(file: string): Promise<BuiltImage> {
  const source = await openSource(file);
  try {
    const { pcrs, pcr8, crc32, header } = await readEif(source);
    if (crc32 === header.crc32) return { file, size: source.size, pcrs, pcr8, source: await fileHash(file) };
    throw new CliError('not_verified', `${file} is damaged or was changed: its checksum is wrong`, {
      hint: 'See dstack-cloud eif verify',
    });
  } finally {
    await source.close();
  }
}

async function fromContainer(
  { context, config, project, output, warnings }: Build,
  path: string,
): Promise<BuiltImage> {
  const { nitro_config: nitro } = project.config;
  const file = join(output, 'enclave.eif');
  const boot = await openBootFiles({ folder: await blobsOf(context, config, project) });
  try {
    const built = await buildEif({
      root: { kind: 'container', path },
      boot,
      // On AWS what runs before the application must be what AWS publishes, unless another value is named.
      pcr1: pinnedBoot(nitro.pcr1, nitro.host),
      now: context.now(),
      buildTime: sourceDate(context),
      tool: { name: 'dstack-cloud', version: VERSION },
      imageName: project.config.name,
      output: file,
      warn: (line) => warnings.push(line),
    });
    if (!built.isAwsBoot)
      warnings.push('Kernel, command line and init are not those that AWS publishes with nitro-cli (PCR 1)');
    const isFile = (await stat(path)).isFile();
    const source = isFile ? await fileHash(path) : toHex(built.pcrs.pcr2);
    return { file, size: built.size, pcrs: built.pcrs, pcr8: built.pcr8, source };
  } finally {
    await boot.close();
  }
}

function pinnedBoot(wanted: string, host: 'aws' | 'local'): string | undefined {
  if (wanted === 'any') return undefined;
  if (wanted !== '') return wanted;
  return host === 'aws' ? 'aws' : undefined;
}

async function blobsOf(context: Context, config: GlobalConfig, project: Project): Promise<string> {
  if (project.config.nitro_config.blobs !== '') return await existing(project, 'blobs');
  const named = config.nitro['blobs'];
  const folder =
    typeof named === 'string' && named !== ''
      ? resolve(context.directory, named)
      : await defaultBlobs(context);
  if (folder !== undefined) return folder;
  throw new CliError(
    'file_missing',
    "There are no files of nitro-cli here: the enclave's kernel, command line and init",
    {
      expected: '/usr/share/nitro_enclaves/blobs, which aws-nitro-enclaves-cli installs',
      hint: 'Copy that folder here, and name it in NITRO_CLI_BLOBS, in nitro.blobs (dstack-cloud config-edit), or in nitro_config.blobs of app.json',
    },
  );
}

async function existing(project: Project, member: 'eif' | 'image' | 'blobs'): Promise<string> {
  const path = await enclaveFilePath(project, member);
  await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ENOENT') throw cause;
    throw new CliError('file_missing', `${path} does not exist`, {
      hint: `Correct nitro_config.${member} in app.json`,
    });
  });
  return path;
}
