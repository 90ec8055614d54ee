import { notFound } from '../api-error.ts';
import type { ComputeState } from './compute-state.ts';

/** A machine type of a zone: C3 is where TDX is. @throws ApiError when the zone has none */
export function machineType({ tdxZones }: ComputeState, zone: string, type: string): object {
  if (!/^(c3|e2)-standard-\d+$/.test(type)) throw notFound(`machineTypes/${type}`);
  if (type.startsWith('c3') && !tdxZones.has(zone)) throw notFound(`machineTypes/${type}`);
  return { name: type, guestCpus: Number(type.split('-')[2]), memoryMb: 16_384 };
}
