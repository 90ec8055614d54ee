import { join } from 'node:path';
import type { ProcessManifest } from '../manifest/manifest.ts';
import type { CvmPaths, RunPaths } from '../manifest/paths.ts';
import type { GuestPorts } from '../ports/choose-ports.ts';
import { MACHINE_MARK } from '../programs/machine-processes.ts';
import { composeProject } from './engine-command.ts';

/**
 * The configuration that the guest's programs get. In a real machine the paths are `/dstack`,
 * `/sys/kernel/config/tsm/report` and so on; here a folder stands for the machine.
 */
export function guestConfig(
  manifest: ProcessManifest,
  paths: CvmPaths,
  run: RunPaths,
  ports: GuestPorts,
): object {
  return {
    root: paths.guest,
    host_shared: paths.shared,
    work_dir: paths.work,
    run_dir: run.dir,
    devices: { tsm: `unix:${run.tsm}`, rtmr: `unix:${run.tsm}`, ccel: `unix:${run.tsm}` },
    event_log: join(paths.guest, 'run/log/dstack/runtime_events.log'),
    host_api_url: `unix:${run.hostApi}`,
    attestation: {
      root_ca: { tdx: manifest.attestation.root_ca_tdx },
      urls: { pccs: manifest.attestation.pccs_url },
    },
    listen: {
      dstack_sock: run.dstack,
      tappd_sock: run.tappd,
      external: `${manifest.agent_port.address}:${ports.agent}`,
    },
    runner: {
      engine: manifest.runner.engine,
      log_dir: paths.containerLogs,
      ...(manifest.runner.images_disk === null
        ? {}
        : { images_disk: join(paths.dir, manifest.runner.images_disk) }),
      // PORT: without a network of its own, a service must listen on the host's port itself.
      env: {
        ...manifest.runner.env,
        ...(ports.app === undefined ? {} : { PORT: String(ports.app) }),
        // So that a service that leaves its session is still found.
        [MACHINE_MARK]: paths.dir,
      },
      engine_env: manifest.runner.engine_env,
      project: composeProject(manifest.id),
      ports: manifest.port_map.map(({ address, from, to }) => ({ address, host: from, guest: to })),
    },
  };
}
