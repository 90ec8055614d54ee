import type { Ingress } from '@dstack-cloud/vmm';
import { CliError } from '../errors.ts';
import { listenAddress, type NitroConfig } from '../project/nitro-config.ts';
import { type EnclaveKms, kmsTarget } from './enclave-inputs.ts';

/** What `dstack-enclave-init` reaches the CONNECT proxy at. */
const CONNECT_PORT = 3128;

/** What an enclave may reach: its KMS, what app.json names, and fixed ways out. */
export function enclaveNetwork(
  nitro: NitroConfig,
  kms: EnclaveKms | undefined,
): {
  readonly allow: readonly string[];
  readonly allowPrivate: boolean;
  readonly egress: readonly { readonly vsock_port: number; readonly target: string }[];
} {
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

/** Ways into an enclave, from addresses of its host. */
export function enclaveIngress({ vsock }: NitroConfig): Ingress[] {
  return vsock.flatMap((one) => {
    if (one.direction !== 'ingress') return [];
    const { address, port } = listenAddress(one.listen, refuse);
    return [{ address, from: port, to: one.enclave_port }];
  });
}

function refuse(problem: string): never {
  throw new CliError('bad_app_json', problem, { hint: 'Correct nitro_config in app.json' });
}
