import type { ComputeState } from './compute-state.ts';
import type { Json, Machine } from './resources.ts';

/** Gives a machine its addresses and an empty console, and switches it on. */
export async function startInstance(state: ComputeState, machine: Machine): Promise<void> {
  const [nic] = machine.body['networkInterfaces'] as Json[];
  const { inside, outside } = state.newAddresses();
  const accessConfigs = ((nic?.['accessConfigs'] ?? []) as Json[]).map((one) => ({ ...one, natIP: outside }));
  machine.body = {
    ...machine.body,
    networkInterfaces: [{ ...nic, networkIP: inside, accessConfigs }],
    status: 'RUNNING',
  };
  machine.serialStart += machine.serial.length;
  machine.serial = Buffer.alloc(0);
  await state.power.on(machine);
}

export function attachDisk(machine: Machine, given: Json): void {
  const { initializeParams: _, ...rest } = given;
  const source = String(given['source']);
  const deviceName = String(given['deviceName'] ?? `persistent-disk-${machine.body.disks.length}`);
  const disk = {
    ...rest,
    source,
    deviceName,
    boot: given['boot'] === true,
    autoDelete: given['autoDelete'] === true,
  };
  // A boot disk is always the first one.
  const disks = disk.boot ? [disk, ...machine.body.disks] : [...machine.body.disks, disk];
  machine.body = { ...machine.body, disks };
}
