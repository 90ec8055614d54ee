import { AppError, HOST_SHARED_LIMITS, type HostSharedName, readFileBounded } from '@dstack-cloud/app';
import { isThere } from '@dstack-cloud/files';
import { checkGivenEnclave, requireEnclaveSpace } from '../enclave/enclave-image.ts';
import { requireEnclavePrograms } from '../enclave/enclave-processes.ts';
import { VmmError } from '../errors.ts';
import { proxyConfigText } from '../manifest/enclave-settings.ts';
import { type CvmManifest, readManifest, type VmManifest } from '../manifest/manifest.ts';
import { cvmPaths } from '../manifest/paths.ts';
import { requireFreePort } from '../ports/ports.ts';
import { readState } from '../state/state.ts';
import { supervisorOf } from '../state/supervisor-of.ts';
import { checkVm } from '../vm/check-vm.ts';
import { checkDataDisk } from '../vm/data-disk.ts';
import { checkSealApproval } from './check-seal-approval.ts';
import type { CreateOptions } from './create-options.ts';
import { requireImagesSpace } from './images-disk.ts';

/** Larger than any seed or certificate. */
const MAX_INPUT_BYTES = 64 * 1024;

/**
 * Everything that can be checked before a machine is made or changed; changes nothing.
 *
 * @param ownPorts ports that the machine itself has now, which count as free
 * @throws VmmError
 */
export async function checkChange(
  { dir, shared, seedFile, rootCaTdx, enclave, images = [] }: CreateOptions,
  manifest: CvmManifest,
  ownPorts: readonly number[] = [],
): Promise<void> {
  for (const [name, bytes] of Object.entries(shared)) {
    const limit = Object.hasOwn(HOST_SHARED_LIMITS, name)
      ? HOST_SHARED_LIMITS[name as HostSharedName]
      : undefined;
    if (limit === undefined) throw new VmmError('bad_option', `${name} is no host-shared file`);
    if (bytes !== undefined && bytes.length > limit)
      throw new VmmError(
        'bad_option',
        `${name} has ${bytes.length} bytes; the guest takes ${limit} at most`,
        {
          expected: `at most ${limit} bytes`,
          found: `${bytes.length} bytes`,
        },
      );
  }
  if (enclave !== undefined) await checkEnclave(dir, enclave.file, manifest);
  else if (shared['app-compose.json'] === undefined || shared['.sys-config.json'] === undefined)
    throw new VmmError('bad_option', 'A machine needs app-compose.json and .sys-config.json');
  await checkSealApproval(shared);
  await requireReadable('The seed of the simulated hardware', seedFile, true);
  if (rootCaTdx != null) await requireReadable('The TDX root', rootCaTdx, false);
  await requireImagesSpace(dir, images);
  const ports = [...manifest.port_map, manifest.agent_port].filter(({ fixed }) => fixed);
  const twice = ports.find(
    ({ from, address }, index) =>
      ports.findIndex((one) => one.from === from && one.address === address) < index,
  );
  if (twice !== undefined)
    throw new VmmError(
      'bad_option',
      `Port ${twice.from} is asked for twice: choose another one for one of them`,
    );
  for (const { from, address } of ports) if (!ownPorts.includes(from)) await requireFreePort(from, address);
  if (manifest.driver !== 'vm') return;
  await checkVm(dir, manifest);
  if (isThere(dir)) await checkDataDisk(cvmPaths(dir).dataDisk, (await readVm(dir)).vm.disk_size);
}

/** What an enclave would fail of at its start. */
async function checkEnclave(dir: string, file: string, manifest: CvmManifest): Promise<void> {
  if (manifest.driver !== 'enclave') return;
  requireEnclavePrograms();
  const { osImageHash } = await checkGivenEnclave(file);
  if (osImageHash !== manifest.image)
    throw new VmmError('bad_image', `${file} is not the image that was measured`, {
      expected: manifest.image,
      found: osImageHash,
    });
  await requireEnclaveSpace(dir, file);
  try {
    proxyConfigText(manifest.enclave, manifest.port_map, 'kernel');
  } catch (cause) {
    throw new VmmError('bad_option', (cause as Error).message, { cause });
  }
}

async function readVm(dir: string): Promise<VmManifest> {
  const manifest = await readManifest(dir);
  if (manifest.driver === 'vm') return manifest;
  throw new VmmError('bad_manifest', `The machine in ${dir} is no virtual machine`);
}

async function requireReadable(what: string, path: string, mayBeMissing: boolean): Promise<void> {
  try {
    await readFileBounded(path, MAX_INPUT_BYTES);
  } catch (cause) {
    if (mayBeMissing && cause instanceof AppError && cause.code === 'file-missing') return;
    throw new VmmError('bad_option', `${what} cannot be used: ${(cause as Error).message}`, { cause });
  }
}

/** Ports of the host that the machine has itself now. */
export async function portsInUse(dir: string): Promise<number[]> {
  const state = await readState(dir);
  return supervisorOf(dir, state) === undefined ? [] : Object.values(state.ports);
}
