import { utf8Text } from '@dstack-cloud/encoding';
import type { GuestConfig } from '../config/guest-config.ts';
import { simulatedRootFile } from '../config/simulated-roots.ts';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';
import { type MachineHost, mustRun } from './disk/machine-host.ts';

const TDX_DEVICE = '/dev/tdx_guest';
const MAX_CPUINFO = 64 * 1024;
/** On the measured command line of development images alone. */
const DEV_FLAVOUR = 'dstack.flavour=dev';

/**
 * The configuration with the TEE of this machine: its hardware, or, in a development image without any, the simulated
 * one of the host. Which image runs is measured, and so is the flavour on its command line.
 *
 * @throws GuestError `tee-missing` when there is neither; `config-invalid` when a configuration asks for a simulated TEE
 *   that the command line does not allow
 */
export async function withTee(config: GuestConfig, host: MachineHost, log: Logger): Promise<GuestConfig> {
  if (config.root !== '/') return config;
  const flags = utf8Text(await host.read('/proc/cpuinfo', 0, MAX_CPUINFO));
  if (/^flags\s*:.*\btdx_guest\b/m.test(flags) && !host.isThere(TDX_DEVICE))
    await mustRun(host, 'modprobe', ['tdx_guest']);
  if (config.simulatedTee !== undefined && !(await host.commandLine()).includes(DEV_FLAVOUR))
    throw new GuestError(
      'config-invalid',
      'simulated_tee is configured, and the command line is not that of a development image',
      { expected: DEV_FLAVOUR },
    );
  if (host.isThere(TDX_DEVICE)) return config;
  const { simulatedTee } = config;
  if (simulatedTee === undefined)
    throw new GuestError(
      'tee-missing',
      `This machine is no TEE: ${TDX_DEVICE} is missing; run the image in a TDX machine, or use a development image`,
      { expected: TDX_DEVICE },
    );
  log.warn(
    { endpoint: simulatedTee },
    'SIMULATED: no TEE hardware here, evidence comes from the host; development only',
  );
  return {
    ...config,
    devices: { tsm: simulatedTee, rtmr: simulatedTee, ccel: simulatedTee },
    tdxRootFile: simulatedRootFile(config),
  };
}
