import { CliError } from '../../errors.ts';
import type { ProjectState } from '../../project/state-file.ts';
import { localPlatform } from '../local/local-platform.ts';
import type { Place, Platform } from '../platform.ts';
import { awsPlatform } from './aws-platform.ts';
import { checkEnclave } from './check-enclave.ts';

/** An enclave of this host: its image's files as processes, with a simulated security module. */
const onThisHost: Platform = {
  ...localPlatform,
  check: checkEnclave,
  // What listens in an enclave speaks whatever its application speaks, and at its own time.
  silentUrls: async () => [],
};

/** Enclaves of AWS Nitro, or with `"host": "local"` of this host. */
export const nitroPlatform: Platform = {
  check: async (place, prepared, before) => {
    if (before !== undefined && hostOf(place) !== hostOf(place, before)) throw elsewhere(before);
    await hostOf(place).check(place, prepared, before);
  },
  find: (place) => hostOf(place).find(place),
  deploy: (place, ...rest) => hostOf(place).deploy(place, ...rest),
  silentUrls: (place, ...rest) => hostOf(place).silentUrls(place, ...rest),
  report: (place, state) => hostOf(place, state).report(place, state),
  logs: (place, state, request) => hostOf(place, state).logs(place, state, request),
  stop: (place, state) => hostOf(place, state).stop(place, state),
  start: (place, state) => hostOf(place, state).start(place, state),
  remove: (place, state, options) => hostOf(place, state).remove(place, state, options),
  list: async (context, config) => [
    ...(await localPlatform.list(context, config)),
    ...(await awsPlatform.list(context, config)),
  ],
};

/** What was deployed here stays here until it is removed, whatever app.json says by then. */
function hostOf({ project }: Place, state?: ProjectState): Platform {
  const isLocal =
    state === undefined ? project.config.nitro_config.host === 'local' : state.machine_dir !== '';
  return isLocal ? onThisHost : awsPlatform;
}

function elsewhere({ instance_name: name, machine_dir: dir }: ProjectState): CliError {
  return new CliError(
    'exists',
    `${name} is deployed ${dir === '' ? 'on AWS' : 'on this host'}, and nitro_config.host says otherwise`,
    {
      hint: 'Set nitro_config.host back, or run dstack-cloud remove first',
    },
  );
}
