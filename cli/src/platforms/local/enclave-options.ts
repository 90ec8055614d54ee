import { resolve } from 'node:path';
import type { CreateOptions } from '@dstack-cloud/vmm';
import { expandHome } from '../../context.ts';
import { enclaveIngress, enclaveNetwork } from '../../enclave/enclave-network.ts';
import type { PreparedNitro } from '../../enclave/prepare-enclave.ts';
import type { Place } from '../platform.ts';

/** What an enclave of this host is made from. */
export function enclaveOptions(
  { context, config, project }: Place,
  { appId, osImageHash, enclave }: PreparedNitro,
  dir: string,
): CreateOptions {
  const { nitro_config: nitro, name } = project.config;
  const ports = enclaveIngress(nitro).map(({ address, from, to }) => ({ address, host: from, guest: to }));
  return {
    dir,
    name: nitro.instance_name || `dstack-${name}`,
    appId,
    image: osImageHash,
    shared: {},
    seedFile: resolve(expandHome(context, config.local.seed_file)),
    machine: `enclave:${name}`,
    ports,
    owner: config.local.owner ?? null,
    project: project.directory,
    enclave: {
      file: enclave.file,
      cid: nitro.enclave_cid,
      ...enclaveNetwork(nitro, enclave.kms),
    },
  };
}
