import { join } from 'node:path';
import { create, vmm } from '@dstack-cloud/prpc';
import { parseConfig } from '../config/load-config.ts';
import { Images } from '../images.ts';
import { Machines } from '../machines/machines.ts';
import { appCompose } from './service-lab.ts';

/**
 * What a service that was just started knows: its machines in `vm` of `root`, its images in `image`.
 *
 * @param text lines of its configuration
 */
export function serviceIn(root: string, text = ''): Machines {
  const config = parseConfig(text, 'vmm.toml');
  const paths = { run_path: join(root, 'vm'), image_path: join(root, 'image') };
  const auto_restart = { ...config.cvm.auto_restart, enabled: false };
  const cvm = { ...config.cvm, auto_restart, acceleration: 'tcg' as const };
  return new Machines({ ...config, ...paths, cvm }, new Images(paths.image_path), () => undefined);
}

/** A machine of image `tiny-sleeps` that is made and not started. */
export function stoppedMachine(): vmm.VmConfiguration {
  return create(vmm.VmConfigurationSchema, {
    ...{ name: 'tiny', image: 'tiny-sleeps', composeFile: appCompose(), noTee: true, stopped: true },
    ...{ vcpu: 1, memory: 256, diskSize: 1, kmsUrls: ['https://kms.example.com'] },
  });
}
