import { resolve } from 'node:path';
import type { CreateOptions } from '@dstack-cloud/vmm';
import { expandHome } from '../../context.ts';
import { kmsTarget } from '../../enclave/enclave-inputs.ts';
import type { PreparedNitro } from '../../enclave/prepare-enclave.ts';
import { CliError } from '../../errors.ts';
import { listenAddress } from '../../project/nitro-config.ts';
import type { Place } from '../platform.ts';

/** What `dstack-enclave-init` reaches the CONNECT proxy at. */
const CONNECT_PORT = 3128;

/** What an enclave of this host is made from. */
export function enclaveOptions(
  { context, config, project }: Place,
  { appId, osImageHash, enclave }: PreparedNitro,
  dir: string,
): CreateOptions {
  const { nitro_config: nitro, name } = project.config;
  const ports = nitro.vsock.flatMap((one) => {
    if (one.direction !== 'ingress') return [];
    const { address, port } = listenAddress(one.listen, refuse);
    return [{ host: port, guest: one.enclave_port, address }];
  });
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
      ...enclaveNetwork(project.config.nitro_config, enclave.kms),
    },
  };
}

/** What an enclave may reach: its KMS, what app.json names, and fixed ways out. */
function enclaveNetwork(
  nitro: Place['project']['config']['nitro_config'],
  kms: PreparedNitro['enclave']['kms'],
): Pick<NonNullable<CreateOptions['enclave']>, 'allow' | 'egress'> & { readonly allowPrivate: boolean } {
  const egress = nitro.vsock.flatMap((one) => (one.direction === 'egress' ? [one] : []));
  // A mapping of that port leads to a proxy of the user's own.
  const hasOwnProxy = egress.some(({ vsock_port: port }) => port === CONNECT_PORT);
  const allow = [...(kms === undefined ? [] : [kmsTarget(kms)]), ...nitro.allow];
  return {
    allow: hasOwnProxy ? [] : [...new Set(allow)],
    allowPrivate: nitro.allow_private,
    egress: egress.map(({ vsock_port, target }) => ({ vsock_port, target })),
  };
}

function refuse(problem: string): never {
  throw new CliError('bad_app_json', problem, { hint: 'Correct nitro_config in app.json' });
}
