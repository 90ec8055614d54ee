import { ApiError, invalid } from '../api-error.ts';
import { attachDisk, startInstance } from './change-instance.ts';
import type { ComputeState } from './compute-state.ts';
import { insertInstance } from './insert-instance.ts';
import { type AttachedDisk, diskKey, type Json, type Machine, type Request } from './resources.ts';

/** Requests of `instances`. */
export function onInstances(state: ComputeState, request: Request): object {
  const { verb, zone, path, query } = request;
  if (verb === 'AggregatedList') return aggregatedList(state, query);
  if (verb === 'List') return state.list(machinesOf(state, zone), query);
  if (verb === 'Insert') return insertInstance(state, request);
  const machine = state.machine(zone, path['instance']!);
  if (verb === 'Get') return machine.body;
  if (verb === 'GetSerialPortOutput') return serialOutput(machine, Number(query.get('start') ?? 0));
  return changePower(state, machine, request) ?? changeMachine(state, machine, request);
}

function aggregatedList(state: ComputeState, query: URLSearchParams): object {
  const items: Record<string, object> = {};
  for (const zone of state.zones) {
    const instances = state.matching(machinesOf(state, zone), query);
    items[`zones/${zone}`] =
      instances.length === 0 ? { warning: { code: 'NO_RESULTS_ON_PAGE' } } : { instances };
  }
  return { items };
}

function machinesOf({ instances }: ComputeState, zone: string): Json[] {
  return [...instances.values()].filter((one) => one.zone === zone).map(({ body }) => body);
}

function changePower(state: ComputeState, machine: Machine, { verb, begin }: Request): object | undefined {
  switch (verb) {
    case 'Delete':
      return begin(machine.name, async () => {
        await state.power.off(machine);
        state.instances.delete(machine.name);
        for (const { source, autoDelete } of machine.body.disks)
          if (autoDelete) state.disks.delete(diskKey(source));
      });
    case 'Stop':
      return begin(machine.name, async () => {
        await state.power.off(machine);
        machine.body = { ...machine.body, status: 'TERMINATED' };
      });
    case 'Start':
      return begin(machine.name, async () => await startInstance(state, machine));
    case 'Reset':
      return begin(machine.name, async () => {
        await state.power.off(machine);
        await startInstance(state, machine);
      });
    default:
      return undefined;
  }
}

function changeMachine(state: ComputeState, machine: Machine, request: Request): object {
  const { verb, zone, query, given, begin } = request;
  const { body } = machine;
  switch (verb) {
    case 'DetachDisk': {
      const device = query.get('deviceName');
      if (!body.disks.some((one) => one.deviceName === device))
        throw invalid(`No disk ${device} is attached`);
      return begin(machine.name, () => {
        const disks = machine.body.disks.filter((one) => one.deviceName !== device);
        machine.body = { ...machine.body, disks };
      });
    }
    case 'AttachDisk':
      state.requireFree(state.disk(zone, String(given['source']).split('/').at(-1)!));
      return begin(machine.name, () => attachDisk(machine, given));
    case 'SetLabels':
    case 'SetTags':
      return setMarks(state, machine, request);
    case 'SetMetadata':
      return begin(machine.name, () => {
        machine.body = { ...machine.body, metadata: given };
      });
    case 'SetDiskAutoDelete':
      return begin(machine.name, () => {
        const isOne = (one: AttachedDisk) => one.deviceName === query.get('deviceName');
        const autoDelete = query.get('autoDelete') === 'true';
        const disks = machine.body.disks.map((one) => (isOne(one) ? { ...one, autoDelete } : one));
        machine.body = { ...machine.body, disks };
      });
    default:
      throw invalid(`The emulator has no Instances.${verb}`);
  }
}

/** Labels or tags, which only those may change who have seen the present ones. */
function setMarks(state: ComputeState, machine: Machine, { verb, given, begin }: Request): object {
  const { body } = machine;
  const isTags = verb === 'SetTags';
  const current = isTags ? (body['tags'] as Json)['fingerprint'] : body['labelFingerprint'];
  if (given[isTags ? 'fingerprint' : 'labelFingerprint'] !== current)
    throw new ApiError(412, 'conditionNotMet', 'The fingerprint does not match');
  return begin(machine.name, async () => {
    const fingerprint = `${String(current)}+`;
    machine.body = {
      ...machine.body,
      ...(isTags
        ? { tags: { items: given['items'], fingerprint } }
        : { labels: given['labels'], labelFingerprint: fingerprint }),
    };
    if (isTags) await state.power.network?.(machine);
  });
}

function serialOutput({ serial, serialStart }: Machine, asked: number): object {
  const end = serialStart + serial.length;
  const start = Math.min(Math.max(asked, serialStart), end);
  const contents = serial.subarray(start - serialStart).toString('utf8');
  return { kind: 'compute#serialPortOutput', contents, start: String(start), next: String(end) };
}
