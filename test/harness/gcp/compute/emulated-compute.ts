import { ApiError, invalid } from '../api-error.ts';
import { checkCall, findCall } from './compute-schema.ts';
import { ComputeState } from './compute-state.ts';
import { machineType } from './machine-type.ts';
import { onDisks } from './on-disks.ts';
import { onFirewalls } from './on-firewalls.ts';
import { onImages } from './on-images.ts';
import { onInstances } from './on-instances.ts';
import { Operations } from './operations.ts';
import type { Json, Request } from './resources.ts';

const GROUPS: Readonly<Record<string, (state: ComputeState, request: Request) => object>> = {
  Images: onImages,
  Disks: onDisks,
  Firewalls: onFirewalls,
  Instances: onInstances,
};

/** Compute Engine, as far as the command line uses it. */
export class EmulatedCompute extends ComputeState {
  readonly operations: Operations = new Operations();

  async answer(method: string, url: URL, body: unknown): Promise<object> {
    await this.operations.settle();
    const { name, path } = this.#check(method, url, body);
    const { project, zone = '' } = path;
    if (project !== this.project)
      throw new ApiError(404, 'notFound', `The resource 'projects/${project}' was not found`);
    if (zone !== '' && !this.zones.has(zone))
      throw new ApiError(400, 'invalid', `Invalid value for field 'zone': '${zone}'. Unknown zone.`);
    const query = url.searchParams;
    const again = this.operations.repeated(query.get('requestId'));
    if (again !== undefined) return again;
    const [group, verb] = name.split('.') as [string, string];
    if (group === 'GlobalOperations' || group === 'ZoneOperations') {
      const operation = path['operation']!;
      return verb === 'Wait' ? await this.operations.wait(operation) : this.operations.show(operation);
    }
    const answer = GROUPS[group];
    if (answer === undefined) return this.#look(name, path);
    const begin: Request['begin'] = (target, finish) =>
      this.operations.begin(query.get('requestId'), name, target, finish);
    return answer(this, { verb, path, zone, query, given: (body ?? {}) as Json, begin });
  }

  #check(method: string, url: URL, body: unknown): ReturnType<typeof findCall> {
    try {
      const call = findCall(method, url.pathname);
      checkCall(method, url, body);
      return call;
    } catch (error) {
      throw new ApiError(400, 'schema', (error as Error).message);
    }
  }

  /** What only shows how the project is. */
  #look(name: string, path: Readonly<Record<string, string>>): object {
    switch (name) {
      case 'Projects.Get':
        return { kind: 'compute#project', name: this.project, defaultServiceAccount: 'default@example' };
      case 'Zones.Get':
        return { kind: 'compute#zone', name: path['zone'], status: 'UP', region: 'regions/us-central1' };
      case 'Zones.List':
        return { items: [...this.zones].map((one) => ({ name: one, status: 'UP' })) };
      case 'Regions.Get': {
        const usage = this.processors();
        return { name: path['region'], quotas: [{ metric: 'C3_CPUS', limit: this.quota, usage }] };
      }
      case 'MachineTypes.Get':
        return machineType(this, path['zone']!, path['machineType']!);
      default:
        throw invalid(`The emulator has no ${name}`);
    }
  }
}
