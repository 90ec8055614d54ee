import { createHash } from 'node:crypto';
import { proxyConfigText } from '@dstack-cloud/vmm';
import { fileHash } from '../../../enclave/build-context.ts';
import { enclaveIngress, enclaveNetwork } from '../../../enclave/enclave-network.ts';
import type { PreparedNitro } from '../../../enclave/prepare-enclave.ts';
import type { Place } from '../../platform.ts';
import type { AwsPlace } from './aws-place.ts';
import { type HostFile, provide } from './bucket.ts';
import { hostPrograms } from './host-programs.ts';
import type { HostRelease } from './host-script.ts';

/** The files of a release and, once they are where the host fetches them, the release. */
export interface MadeRelease {
  readonly files: readonly HostFile[];
  readonly release: HostRelease;
}

/** Where `dstack-enclave-init` says how it goes. */
const REPORT_PORT = 9001;

/** Configuration of the proxy. @throws what the proxy would refuse */
export function proxyText({ project }: Place, { enclave }: PreparedNitro): string {
  const { nitro_config: nitro } = project.config;
  const { allow, allowPrivate, egress } = enclaveNetwork(nitro, enclave.kms);
  const settings = { file: '', allow, allow_private: allowPrivate, egress, cid: nitro.enclave_cid };
  const network = proxyConfigText(settings, enclaveIngress(nitro), 'kernel') ?? '{"vsock":"kernel"}';
  const isTaken = egress.some(({ vsock_port: port }) => port === REPORT_PORT);
  return isTaken ? network : JSON.stringify({ ...JSON.parse(network), reports: REPORT_PORT });
}

/** Uploads what the host needs of this revision. */
export async function makeRelease(aws: AwsPlace, prepared: PreparedNitro): Promise<MadeRelease> {
  const { place, settings } = aws;
  const { file, size } = prepared.enclave;
  const image: HostFile = { name: 'enclave.eif', size, sha256: await fileHash(file), content: file };
  const programs = await hostPrograms();
  const { cpu_count: cpuCount, memory_mib: memoryMib, enclave_cid: cid } = settings.nitro;
  const proxy = proxyText(place, prepared);
  const what = [image.sha256, programs.sha256, proxy, cpuCount, memoryMib, cid].join('\n');
  return {
    files: [image, programs],
    release: {
      id: createHash('sha256').update(what).digest('hex').slice(0, 32),
      eif: { file: image, url: await provide(aws, image) },
      programs: { file: programs, url: await provide(aws, programs) },
      ...{ proxy, cpuCount, memoryMib, cid },
    },
  };
}
