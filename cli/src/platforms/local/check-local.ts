import {
  type AppCompose,
  assertSupported,
  checkRequirements,
  DIRECTORY_MACHINE,
  DISK_MACHINE,
  parseAppCompose,
} from '@dstack-cloud/app';
import { checkCvm, requireKeyProvider } from '@dstack-cloud/vmm';
import { CliError, messageOf } from '../../errors.ts';
import { localDriver } from '../../project/local-driver.ts';
import type { Prepared } from '../../project/shared-files.ts';
import type { ProjectState } from '../../project/state-file.ts';
import type { Place } from '../platform.ts';
import { checkCompose } from './check-compose.ts';
import { checkImages } from './check-images.ts';
import { createOptions, newDirectory } from './create-options.ts';
import { projectMachine } from './paths.ts';
import { requireOwner } from './require-owner.ts';

/** What a machine of this platform says of itself when its application demands something. */
const MACHINE = { platform: 'dstack-tdx', osVersion: undefined, gpus: 0 };

/**
 * Refuses what the guest would refuse, by the guest's own code, and what this host cannot give: ports, names, seed; before
 * anything is registered, sealed or stopped.
 *
 * @throws CliError `bad_compose_file`, `bad_app_json`, `not_owner`; VmmError
 */
export async function checkLocal(
  place: Place,
  prepared: Prepared,
  before: ProjectState | undefined,
): Promise<void> {
  const compose = checkGuest(place, prepared);
  if (compose.keyProvider === 'local') await requireKeyProvider();
  await checkCompose(place, compose);
  for (const note of await checkImages(place, compose, before === undefined)) place.context.warn(note);
  const known = before === undefined ? undefined : projectMachine(place, before);
  if (known !== undefined) await requireOwner(place, known);
  await checkCvm(await createOptions(place, prepared, known ?? newDirectory(place)));
}

/** What the guest of such a machine would refuse. @throws CliError `bad_compose_file`, `bad_app_json` */
export function checkGuest(place: Place, prepared: Prepared): AppCompose {
  const { files } = prepared;
  const compose = parseAppCompose(files['app-compose.json'] ?? new Uint8Array());
  const isVm = localDriver(place.config, place.project) === 'vm';
  refuseKeyProvider(compose, isVm);
  try {
    assertSupported(compose, isVm ? DISK_MACHINE : DIRECTORY_MACHINE);
    checkRequirements(compose, { ...MACHINE, userConfig: files['.user-config'] });
    return compose;
  } catch (error) {
    const { expected, found } = error as { expected?: string; found?: string };
    const source = place.project.config.app_compose_file;
    throw new CliError('bad_compose_file', messageOf(error), {
      ...(expected === undefined ? {} : { expected }),
      ...(found === undefined ? {} : { found }),
      hint:
        source === ''
          ? 'Change app.json, then deploy again'
          : `Change ${source}; a guest of this version boots no machine from it`,
      cause: error,
    });
  }
}

/** Only a machine with a kernel of its own has a TPM, and a disk that keeps what a key provider's key encrypted. */
function refuseKeyProvider({ keyProvider }: AppCompose, isVm: boolean): void {
  if (isVm || keyProvider === 'kms' || keyProvider === 'none') return;
  throw new CliError(
    'bad_app_json',
    `Key provider ${keyProvider} does not exist on platform local with driver process`,
    {
      expected: 'kms or none',
      found: keyProvider,
      hint: 'Set key_provider to kms (keys survive) or none (fresh keys at each boot) in app.json, or local_config.driver to vm',
    },
  );
}
