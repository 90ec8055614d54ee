import { invalid } from '../api-error.ts';
import { attachDisk, startInstance } from './change-instance.ts';
import type { ComputeState } from './compute-state.ts';
import { machineType } from './machine-type.ts';
import { OperationError } from './operations.ts';
import type { Json, Machine, Request } from './resources.ts';

/** `instances.insert`: what is asked for is checked at once, what there is room for when its time has come. */
export function insertInstance(state: ComputeState, { zone, given, begin }: Request): object {
  const name = String(given['name']);
  state.newName(state.instances, name, given);
  const type = String(given['machineType']).split('/').at(-1)!;
  const confidential = given['confidentialInstanceConfig'] as Json | undefined;
  if (confidential?.['confidentialInstanceType'] === 'TDX') requireTdx(type, given);
  machineType(state, zone, type);
  const disks = (given['disks'] ?? []) as Json[];
  if (disks[0]?.['boot'] !== true) throw invalid('The first disk must be a boot disk');
  for (const [i, disk] of disks.entries()) {
    const params = disk['initializeParams'] as Json | undefined;
    if (params === undefined) {
      state.requireFree(state.disk(zone, String(disk['source']).split('/').at(-1)!));
      continue;
    }
    const image = state.requireImage(params['sourceImage']);
    const features = ((image.body['guestOsFeatures'] ?? []) as Json[]).map((one) => one['type']);
    if (i === 0 && confidential !== undefined && !features.includes('TDX_CAPABLE'))
      throw invalid(`The image ${image.body['name']} does not have the guest OS feature TDX_CAPABLE`);
    state.newName(state.disks, `${zone}/${String(params['diskName'] ?? name)}`, params);
  }
  return begin(name, async () => {
    requireRoom(state, zone, Number(type.split('-')[2]));
    const machine: Machine = {
      ...{ name, zone, serial: Buffer.alloc(0), serialStart: 0 },
      body: {
        ...state.stamp({ ...given, zone, status: 'STAGING' }),
        tags: { ...(given['tags'] as Json | undefined), fingerprint: 'f' },
        labelFingerprint: 'f',
        disks: [],
      },
    };
    state.instances.set(name, machine);
    for (const disk of disks) {
      const params = disk['initializeParams'] as Json | undefined;
      if (params === undefined) attachDisk(machine, disk);
      else {
        const { diskName = name, diskSizeGb, sourceImage, labels } = params;
        state.makeDisk(zone, { name: diskName, sizeGb: diskSizeGb, sourceImage, labels });
        attachDisk(machine, { ...disk, source: `zones/${zone}/disks/${String(diskName)}` });
      }
    }
    await startInstance(state, machine);
  });
}

function requireTdx(type: string, given: Json): void {
  if (!/^c3-standard-(4|8|22|44|88|176)$/.test(type))
    throw invalid(`The machine type ${type} does not support confidential instance type TDX`);
  if ((given['scheduling'] as Json | undefined)?.['onHostMaintenance'] !== 'TERMINATE')
    throw invalid('Confidential VMs need onHostMaintenance TERMINATE');
}

function requireRoom(state: ComputeState, zone: string, wanted: number): void {
  if (state.exhausted.has(zone))
    throw new OperationError(
      'ZONE_RESOURCE_POOL_EXHAUSTED',
      `The zone '${zone}' does not have enough resources`,
    );
  if (state.processors() + wanted > state.quota)
    throw new OperationError(
      'QUOTA_EXCEEDED',
      `Quota 'C3_CPUS' exceeded. Limit: ${state.quota}.0 in region us-central1.`,
    );
}
