import {
  type AppCompose,
  assertSupported,
  checkRequirements,
  DISK_MACHINE,
  parseAppCompose,
} from '@dstack-cloud/app';
import { readComposeFile } from '@dstack-cloud/app/compose-file';
import { CliError, messageOf } from '../../errors.ts';
import type { Prepared } from '../../project/shared-files.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { CheckOptions, Place } from '../platform.ts';
import { explainGcp } from './api/gcp-error.ts';
import { bootImageName, requireBootImage } from './boot-image.ts';
import { hasBucket } from './bucket.ts';
import { type GcpPlace, openGcp } from './gcp-place.ts';
import { findDataDisk, findInstance } from './own-instance.ts';
import { BOOT_IMAGE } from './resources.ts';

const MACHINE = { platform: 'dstack-gcp-tdx', osVersion: undefined, gpus: 0 };

/**
 * Refuses what the guest would refuse, by the guest's own code, and what this project cannot get at Google; nothing is made
 * before.
 *
 * @throws CliError
 */
export async function checkGcp(
  place: Place,
  prepared: Prepared,
  before: ProjectState | undefined,
  options: CheckOptions = {},
): Promise<void> {
  checkGuest(place, prepared);
  const gcp = await openGcp(place);
  const { settings, compute } = gcp;
  try {
    if ((await compute.find()) === undefined) throw noProject(settings.project);
    const name = bootImageName(settings, place.project.config.os_image, prepared.osImageHash);
    await requireBootImage(gcp, name, options.forceBootImage === true);
    await requireMachineType(gcp);
    await hasBucket(gcp);
    const live = await findInstance(gcp);
    const disk = await findDataDisk(gcp);
    if (disk !== undefined && options.data !== 'delete')
      refuseLostKeys(
        place,
        prepared,
        before,
        live?.labels?.[BOOT_IMAGE] ?? before?.boot_image,
        name,
        options,
      );
  } catch (error) {
    throw explainGcp(`Project ${settings.project}`, error);
  }
}

function checkGuest({ project }: Place, { files }: Prepared): AppCompose {
  const compose = parseAppCompose(files['app-compose.json'] ?? new Uint8Array());
  const { docker_compose_file, app_compose_file } = project.config;
  const source = app_compose_file === '' ? docker_compose_file : app_compose_file;
  try {
    assertSupported(compose, DISK_MACHINE);
    checkRequirements(compose, { ...MACHINE, userConfig: files['.user-config'] });
    if (compose.runner === 'docker-compose') readComposeFile(compose.dockerComposeFile ?? '', source);
    return compose;
  } catch (error) {
    const { code, expected, found } = error as { code?: string; expected?: string; found?: string };
    // Docker in the guest does what our own reader does not.
    if (code === 'compose-file-unsupported') return compose;
    throw new CliError('bad_compose_file', messageOf(error), {
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
      hint: `Change ${source} or app.json, then deploy again`,
      cause: error,
    });
  }
}

async function requireMachineType({ settings, compute }: GcpPlace): Promise<void> {
  const { zone, machineType } = settings;
  if (!/^(c3-standard-(4|8|22|44|88|176)|a3-highgpu-\w+)$/.test(machineType))
    throw new CliError('bad_app_json', `Machine type ${machineType} has no TDX`, {
      expected: 'c3-standard-4, -8, -22, -44, -88 or -176',
      found: machineType,
      hint: 'Set gcp_config.machine_type in app.json',
    });
  if ((await compute.find('zones', zone, 'machineTypes', machineType)) !== undefined) return;
  throw new CliError('refused', `Zone ${zone} has no ${machineType}: TDX is in some zones only`, {
    hint: 'Set another gcp_config.zone; dstack-cloud doctor lists zones with TDX',
  });
}

/**
 * A key that a vTPM sealed opens only for the system of before, unless its owner approves the new one. The data would be
 * unreadable.
 */
function refuseLostKeys(
  { project }: Place,
  prepared: Prepared,
  before: ProjectState | undefined,
  bootImage: string | undefined,
  wanted: string,
  { force, recreate }: CheckOptions,
): void {
  if (project.config.key_provider !== 'tpm' || force === true || before === undefined) return;
  const isApproved = prepared.files['.seal-approval.json'] !== undefined;
  const isOther =
    before.compose_hash !== prepared.composeHash || (bootImage !== undefined && bootImage !== wanted);
  const why =
    recreate === true
      ? 'another machine has another vTPM'
      : isOther && !isApproved
        ? 'the vTPM keeps the key for the system of before'
        : undefined;
  if (why === undefined) return;
  throw new CliError('refused', `The data disk would become unreadable: ${why}`, {
    expected: `compose hash ${before.compose_hash} and boot image ${bootImage}`,
    found: `compose hash ${prepared.composeHash} and boot image ${wanted}`,
    hint: 'Let the owner approve the new system first (docs/sealing.md), take over with --force and lose the data, or delete it with --delete-data',
  });
}

function noProject(project: string): CliError {
  return new CliError('cloud_refused', `This account sees no project ${project}`, {
    hint: 'Correct gcp_config.project (the id, not the name), or use another account',
  });
}
