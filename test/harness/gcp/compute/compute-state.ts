import { ApiError, invalid, notFound } from '../api-error.ts';
import type { EmulatedStorage } from '../storage.ts';
import { OperationError } from './operations.ts';
import { diskKey, type Image, type Json, type Machine } from './resources.ts';

/** Google keeps the last MiB of a console. */
const SERIAL_BYTES = 1024 * 1024;
const NAME = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LABEL_KEY = /^[a-z][a-z0-9_-]{0,62}$/;
const LABEL_VALUE = /^[a-z0-9_-]{0,63}$/;
/** Lists come in pages, so that whoever reads one page alone is found out. */
const PAGE = 2;

/** What is done with a machine beside writing it down; real machines come in here. */
export interface Power {
  readonly on: (machine: Machine) => void | Promise<void>;
  readonly off: (machine: Machine) => void | Promise<void>;
  /** Firewall rules or tags changed. */
  readonly network?: (machine: Machine) => void | Promise<void>;
}

/** The resources of a project, and the rules that all of them share. */
export class ComputeState {
  readonly images: Map<string, Image> = new Map();
  readonly disks: Map<string, Json> = new Map();
  readonly instances: Map<string, Machine> = new Map();
  readonly firewalls: Map<string, Json> = new Map();
  /** Zones of the region with TDX; other zones have machines without. */
  readonly tdxZones: Set<string> = new Set(['us-central1-a', 'us-central1-c']);
  readonly zones: Set<string> = new Set(['us-central1-a', 'us-central1-b', 'us-central1-c']);
  /** C3 processors that the region may have. */
  quota = 100;
  /** Zones whose machines are all taken. */
  readonly exhausted: Set<string> = new Set();
  power: Power = { on: () => undefined, off: () => undefined };
  readonly project: string;
  readonly storage: EmulatedStorage;
  readonly #now: () => Date;
  #addresses = 0;
  #ids = 0;
  /** All of loopback is this machine's: each instance has an address of its own there. */
  readonly #network: string = `127.${1 + Math.floor(Math.random() * 250)}.${Math.floor(Math.random() * 250)}`;

  constructor(project: string, storage: EmulatedStorage, now: () => Date) {
    this.project = project;
    this.storage = storage;
    this.#now = now;
  }

  /** Output of a machine's console. */
  write(instance: string, text: string): void {
    const machine = this.find(this.instances, instance);
    const all = Buffer.concat([machine.serial, Buffer.from(text)]);
    const lost = Math.max(0, all.length - SERIAL_BYTES);
    machine.serial = all.subarray(lost);
    machine.serialStart += lost;
  }

  /** An address inside, and one outside. */
  newAddresses(): { inside: string; outside: string } {
    const number = ++this.#addresses;
    return { inside: `10.128.0.${number}`, outside: `${this.#network}.${1 + (number % 250)}` };
  }

  /** C3 processors in use. */
  processors(): number {
    const sizes = [...this.instances.values()].map(({ body }) =>
      Number(String(body['machineType']).split('-').at(-1)),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  machine(zone: string, name: string): Machine {
    const machine = this.instances.get(name);
    if (machine?.zone !== zone) throw notFound(`zones/${zone}/instances/${name}`);
    return machine;
  }

  disk(zone: string, name: string): Json {
    return this.find(this.disks, `${zone}/${name}`);
  }

  makeDisk(zone: string, given: Json): void {
    const name = String(given['name']);
    const image = given['sourceImage'] === undefined ? undefined : this.requireImage(given['sourceImage']);
    const least = Number(image?.body['diskSizeGb'] ?? 1);
    if (given['sizeGb'] !== undefined && Number(given['sizeGb']) < least)
      throw new OperationError('RESOURCE_INVALID', `Disk ${name} is smaller than its image`);
    const made = this.stamp({ sizeGb: String(least), ...given, zone, status: 'READY' });
    this.disks.set(`${zone}/${name}`, { ...made, archive: image?.archive });
  }

  requireImage(source: unknown): Image {
    return this.find(this.images, String(source).split('/').at(-1)!);
  }

  requireFree(disk: Json): void {
    for (const { name, body } of this.instances.values())
      for (const { source } of body.disks)
        if (diskKey(source) === `${String(disk['zone'])}/${String(disk['name'])}`)
          throw new ApiError(
            400,
            'resourceInUseByAnotherResource',
            `The disk resource '${String(disk['name'])}' is already being used by '${name}'`,
          );
  }

  /** @throws ApiError when the name or a label cannot be, or something has that name */
  newName(known: ReadonlyMap<string, unknown>, key: string, given: Json): void {
    const name = key.split('/').at(-1)!;
    if (!NAME.test(name)) throw invalid(`Invalid value for field 'resource.name': '${name}'`);
    if (known.has(key)) throw new ApiError(409, 'alreadyExists', `The resource '${name}' already exists`);
    for (const [label, value] of Object.entries((given['labels'] ?? {}) as Record<string, string>))
      if (!LABEL_KEY.test(label) || !LABEL_VALUE.test(value))
        throw invalid(`Invalid label ${label}=${value}`);
  }

  find<T>(known: ReadonlyMap<string, T>, key: string): T {
    const found = known.get(key);
    if (found === undefined) throw notFound(key);
    return found;
  }

  /** What every new resource has. */
  stamp(given: Json): Json {
    return { ...given, id: String(++this.#ids), creationTimestamp: this.#now().toISOString() };
  }

  /** A page of a list. */
  list(all: readonly Json[], query: URLSearchParams): object {
    const found = this.matching(all, query);
    const start = Number(query.get('pageToken') ?? 0);
    const items = found.slice(start, start + PAGE);
    return { items, ...(start + PAGE < found.length ? { nextPageToken: String(start + PAGE) } : {}) };
  }

  matching(all: readonly Json[], query: URLSearchParams): Json[] {
    const filter = query.get('filter');
    if (filter === null) return [...all];
    const label = /^labels\.([a-z0-9_-]+)=([a-z0-9_-]+)$/.exec(filter);
    if (label !== null)
      return all.filter(
        (one) => (one['labels'] as Record<string, string> | undefined)?.[label[1]!] === label[2],
      );
    const name = /^name eq "(.+)"$/.exec(filter);
    if (name === null) throw invalid(`The emulator does not know the filter ${filter}`);
    const pattern = new RegExp(`^(?:${name[1]})$`);
    return all.filter((one) => pattern.test(String(one['name'])));
  }
}
