import type { GlobalConfig } from '../../config/global-config.ts';
import type { Context } from '../../context.ts';
import { CliError } from '../../errors.ts';
import { instanceName } from '../../project/instance-name.ts';
import type { ProjectState } from '../../project/state-file.ts';
import { localPlatform } from '../local/local-platform.ts';
import type { Firewall, ListedMachine, Place, Platform } from '../platform.ts';
import { checkEnclave } from './check-enclave.ts';

/** An enclave of this host: its image's files as processes, with a simulated security module. */
const onThisHost: Platform = {
  ...localPlatform,
  check: checkEnclave,
  // What listens in an enclave speaks whatever its application speaks, and at its own time.
  silentUrls: async () => [],
};

/** The clients of AWS are large: only who uses them loads them. */
const onAws = async (): Promise<Platform> => (await import('./aws/aws-platform.ts')).awsPlatform;

/** Enclaves of AWS Nitro, or with `"host": "local"` of this host. */
export const nitroPlatform: Platform = {
  check: async (place, prepared, before, options) => {
    if (before !== undefined && isLocal(place) !== isLocal(place, before)) throw elsewhere(before);
    await (await hostOf(place)).check(place, prepared, before, options);
  },
  plan: async (place, ...rest) => (await (await hostOf(place)).plan?.(place, ...rest)) ?? [],
  find: async (place) => await (await hostOf(place)).find(place),
  deploy: async (place, ...rest) => await (await hostOf(place)).deploy(place, ...rest),
  silentUrls: async (place, ...rest) => await (await hostOf(place)).silentUrls(place, ...rest),
  report: async (place, state) => await (await hostOf(place, state)).report(place, state),
  logs: async (place, state, request) => await (await hostOf(place, state)).logs(place, state, request),
  stop: async (place, state, options) => await (await hostOf(place, state)).stop(place, state, options),
  start: async (place, state) => await (await hostOf(place, state)).start(place, state),
  remove: async (place, state, options) => await (await hostOf(place, state)).remove(place, state, options),
  list: async (context, config) => [
    ...(await localPlatform.list(context, config)),
    ...(await listOnAws(context, config)),
  ],
  firewall: {
    instance: ({ project }) => project.config.nitro_config.instance_name || instanceName(project.config.name),
    set: async (place, ...rest) => await (await firewallOf(place)).set(place, ...rest),
    remove: async (place, port) => await (await firewallOf(place)).remove(place, port),
    list: async (place) => await (await firewallOf(place)).list(place),
  },
};

/** What was deployed here stays here until it is removed, whatever app.json says by then. */
function isLocal({ project }: Place, state?: ProjectState): boolean {
  return state === undefined ? project.config.nitro_config.host === 'local' : state.machine_dir !== '';
}

async function hostOf(place: Place, state?: ProjectState): Promise<Platform> {
  return isLocal(place, state) ? onThisHost : await onAws();
}

async function firewallOf(place: Place): Promise<Firewall> {
  const { firewall } = await hostOf(place);
  if (firewall !== undefined) return firewall;
  throw new CliError(
    'usage',
    'An enclave of this host has no firewall: nitro_config.vsock says what listens',
  );
}

/** Who only uses this host has no credentials, and needs none. */
async function listOnAws(context: Context, config: GlobalConfig): Promise<ListedMachine[]> {
  try {
    return await (await onAws()).list(context, config);
  } catch (error) {
    if (!(error instanceof CliError) || error.code !== 'no_credentials') throw error;
    context.debug(`No look at AWS: ${error.message}`);
    return [];
  }
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
