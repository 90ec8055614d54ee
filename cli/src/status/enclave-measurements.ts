import { lastBuilt } from '../enclave/built-enclave.ts';
import { sourceHash } from '../enclave/prepare-enclave.ts';
import { messageOf } from '../errors.ts';
import type { MachineReport, Place } from '../platforms/platform.ts';
import type { ProjectState } from '../project/state-file.ts';
import type { Measurements } from './measured.ts';

/**
 * Registers of the deployed image, and where the project, what was built of it, the deployment and the running enclave
 * differ. Nothing is built for it.
 */
export async function enclaveMeasurements(
  { context, config, project }: Place,
  state: ProjectState,
  report: MachineReport,
): Promise<Measurements> {
  const rows: [string, string][] = [
    ...Object.entries(state.registers ?? {}),
    ['OS_IMAGE_HASH', state.os_image_hash === '' ? '' : `0x${state.os_image_hash}`],
    ['app-id', state.app_id],
  ];
  const drift = [...(report.drift ?? [])];
  try {
    const built = await lastBuilt(project.directory);
    if (built === undefined)
      drift.push('Nothing in output/ says what the project was built to: dstack-cloud measure');
    else {
      if (built.osImageHash !== state.os_image_hash)
        drift.push(`output/enclave.eif has OS_IMAGE_HASH 0x${built.osImageHash}: deploy to update`);
      const source = await sourceHash(context, config, project);
      if (source !== undefined && source !== built.source)
        drift.push(
          'The project was changed since its image was built: dstack-cloud measure tells the new hash',
        );
    }
  } catch (error) {
    drift.push(`The project cannot be measured: ${messageOf(error)}`);
  }
  return { rows, drift };
}
