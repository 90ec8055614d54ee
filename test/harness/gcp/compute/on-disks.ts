import { invalid } from '../api-error.ts';
import type { ComputeState } from './compute-state.ts';
import type { Request } from './resources.ts';

/** Requests of `disks`. */
export function onDisks(state: ComputeState, { verb, zone, path, query, given, begin }: Request): object {
  const { disks } = state;
  const name = path['disk'] ?? String(given['name']);
  if (verb === 'Get') return state.disk(zone, name);
  if (verb === 'List') {
    const ofZone = [...disks.values()].filter((one) => one['zone'] === zone);
    return state.list(ofZone, query);
  }
  if (verb === 'Delete') {
    const disk = state.disk(zone, name);
    state.requireFree(disk);
    return begin(name, () => void disks.delete(`${zone}/${name}`));
  }
  if (verb === 'Resize') {
    const disk = state.disk(zone, name);
    if (Number(given['sizeGb']) <= Number(disk['sizeGb']))
      throw invalid(`Invalid value for field 'sizeGb': '${String(given['sizeGb'])}'. Disks only grow.`);
    return begin(name, () => {
      disk['sizeGb'] = String(given['sizeGb']);
    });
  }
  if (verb !== 'Insert') throw invalid(`The emulator has no Disks.${verb}`);
  state.newName(disks, `${zone}/${name}`, given);
  state.requireImage(given['sourceImage']);
  return begin(name, () => state.makeDisk(zone, given));
}
