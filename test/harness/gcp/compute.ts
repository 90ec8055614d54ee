import { ApiError, invalid, notFound } from './api-error.ts';
import { checkCall, findCall } from './compute-schema.ts';
import { readDiskArchive } from './image-archive.ts';
import { OperationError, Operations } from './operations.ts';
import type { EmulatedStorage } from './storage.ts';

type Json = Record<string, unknown>;

/** Google keeps the last MiB of a console. */
const SERIAL_BYTES = 1024 * 1024;
const NAME = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LABEL_KEY = /^[a-z][a-z0-9_-]{0,62}$/;
const LABEL_VALUE = /^[a-z0-9_-]{0,63}$/;
/** Lists come in pages, so that whoever reads one page alone is found out. */
const PAGE = 2;

interface Machine {
  readonly name: string;
  readonly zone: string;
  body: Json & { disks: AttachedDisk[] };
  serial: Buffer;
  serialStart: number;
}
interface AttachedDisk extends Json {
  readonly deviceName: string;
  readonly source: string;
  readonly boot: boolean;
  readonly autoDelete: boolean;
}
interface Image {
  readonly body: Json;
  readonly archive: string;
}

/** What is done with a machine beside writing it down; real machines come in here. */
export type Power = (machine: Machine, change: 'on' | 'off') => void | Promise<void>;

/** Compute Engine, as far as the command line uses it. */
export class EmulatedCompute {
  readonly operations: Operations = new Operations();
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
  power: Power = () => undefined;
  #addresses = 0;
  /** All of loopback is this machine's: each instance has an address of its own there. */
  readonly #network: string = `127.${1 + Math.floor(Math.random() * 250)}.${Math.floor(Math.random() * 250)}`;

  private readonly project: string;
  private readonly storage: EmulatedStorage;
  private readonly now: () => Date;

  constructor(project: string, storage: EmulatedStorage, now: () => Date) {
    this.project = project;
    this.storage = storage;
    this.now = now;
  }

  /** Output of a machine's console. */
  write(instance: string, text: string): void {
    const machine = this.#find(this.instances, instance);
    const all = Buffer.concat([machine.serial, Buffer.from(text)]);
    const lost = Math.max(0, all.length - SERIAL_BYTES);
    machine.serial = all.subarray(lost);
    machine.serialStart += lost;
  }

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
    const given = (body ?? {}) as Json;
    const begin = (target: string, finish: () => void | Promise<void>): object =>
      this.operations.begin(query.get('requestId'), name, target, finish);
    const [group, verb] = name.split('.') as [string, string];
    switch (group) {
      case 'GlobalOperations':
      case 'ZoneOperations':
        if (verb === 'Wait') return await this.operations.wait(path['operation']!);
        return this.operations.show(path['operation']!);
      case 'Images':
        return this.#onImages(verb, path, query, given, begin);
      case 'Disks':
        return this.#onDisks(verb, zone, path, query, given, begin);
      case 'Firewalls':
        return this.#onFirewalls(verb, path, query, given, begin);
      case 'Instances':
        return this.#onInstances(verb, zone, path, query, given, begin);
      default:
        return this.#look(name, path);
    }
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
        const usage = this.#processors();
        return { name: path['region'], quotas: [{ metric: 'C3_CPUS', limit: this.quota, usage }] };
      }
      case 'MachineTypes.Get': {
        const type = path['machineType']!;
        if (!/^(c3|e2)-standard-\d+$/.test(type)) throw notFound(`machineTypes/${type}`);
        if (type.startsWith('c3') && !this.tdxZones.has(path['zone']!))
          throw notFound(`machineTypes/${type}`);
        return { name: type, guestCpus: Number(type.split('-')[2]), memoryMb: 16_384 };
      }
      default:
        throw invalid(`The emulator has no ${name}`);
    }
  }

  #onImages(
    verb: string,
    path: Readonly<Record<string, string>>,
    query: URLSearchParams,
    given: Json,
    begin: Begin,
  ): object {
    const name = path['image'] ?? String(given['name']);
    if (verb === 'Get') return this.#find(this.images, name).body;
    if (verb === 'List')
      return this.#list(
        [...this.images.values()].map(({ body }) => body),
        query,
      );
    if (verb === 'Delete') {
      this.#find(this.images, name);
      return begin(name, () => void this.images.delete(name));
    }
    if (verb !== 'Insert') throw invalid(`The emulator has no Images.${verb}`);
    this.#newName(this.images, name, given);
    const source = String((given['rawDisk'] as Json | undefined)?.['source']);
    const match = /^https:\/\/storage\.googleapis\.com\/([^/]+)\/(.+)$/.exec(source);
    if (match === null) throw invalid(`Invalid value for field 'rawDisk.source': '${source}'`);
    const [, bucket, object] = match as unknown as [string, string, string];
    this.storage.buckets.get(bucket)?.objects.get(object) ?? fail(notFound(`${bucket}/${object}`));
    return begin(name, async () => {
      const archive = this.storage.copyOf(bucket, object);
      const { size } = await readDiskArchive(archive);
      const diskSizeGb = String(size / 1024 ** 3);
      this.images.set(name, { archive, body: this.#stamp({ ...given, status: 'READY', diskSizeGb }) });
    });
  }

  #onDisks(
    verb: string,
    zone: string,
    path: Readonly<Record<string, string>>,
    query: URLSearchParams,
    given: Json,
    begin: Begin,
  ): object {
    const name = path['disk'] ?? String(given['name']);
    if (verb === 'Get') return this.#disk(zone, name);
    if (verb === 'List')
      return this.#list(
        [...this.disks.values()].filter((one) => one['zone'] === zone),
        query,
      );
    if (verb === 'Delete') {
      const disk = this.#disk(zone, name);
      this.#requireFree(disk);
      return begin(name, () => void this.disks.delete(`${zone}/${name}`));
    }
    if (verb !== 'Insert') throw invalid(`The emulator has no Disks.${verb}`);
    this.#newName(this.disks, `${zone}/${name}`, given);
    this.#requireImage(given['sourceImage']);
    return begin(name, () => this.#makeDisk(zone, given));
  }

  #onFirewalls(
    verb: string,
    path: Readonly<Record<string, string>>,
    query: URLSearchParams,
    given: Json,
    begin: Begin,
  ): object {
    const name = path['firewall'] ?? String(given['name']);
    if (verb === 'List') return this.#list([...this.firewalls.values()], query);
    if (verb === 'Insert') {
      this.#newName(this.firewalls, name, given);
      return begin(name, () => void this.firewalls.set(name, this.#stamp(given)));
    }
    const rule = this.#find(this.firewalls, name);
    if (verb === 'Get') return rule;
    if (verb === 'Patch') return begin(name, () => void this.firewalls.set(name, { ...rule, ...given }));
    if (verb === 'Delete') return begin(name, () => void this.firewalls.delete(name));
    throw invalid(`The emulator has no Firewalls.${verb}`);
  }

  #onInstances(
    verb: string,
    zone: string,
    path: Readonly<Record<string, string>>,
    query: URLSearchParams,
    given: Json,
    begin: Begin,
  ): object {
    if (verb === 'AggregatedList') {
      const items: Record<string, object> = {};
      for (const one of this.zones) {
        const instances = this.#matching(this.#machines(one), query);
        items[`zones/${one}`] =
          instances.length === 0 ? { warning: { code: 'NO_RESULTS_ON_PAGE' } } : { instances };
      }
      return { items };
    }
    if (verb === 'List') return this.#list(this.#machines(zone), query);
    if (verb === 'Insert') return this.#insert(zone, given, begin);
    const machine = this.#machine(zone, path['instance']!);
    const { body } = machine;
    switch (verb) {
      case 'Get':
        return body;
      case 'GetSerialPortOutput':
        return serialOutput(machine, Number(query.get('start') ?? 0));
      case 'Delete':
        return begin(machine.name, async () => {
          await this.power(machine, 'off');
          this.instances.delete(machine.name);
          for (const { source, autoDelete } of body.disks) if (autoDelete) this.disks.delete(diskKey(source));
        });
      case 'Stop':
        return begin(machine.name, async () => {
          await this.power(machine, 'off');
          machine.body = { ...machine.body, status: 'TERMINATED' };
        });
      case 'Start':
        return begin(machine.name, async () => await this.#start(machine));
      case 'Reset':
        return begin(machine.name, async () => {
          await this.power(machine, 'off');
          await this.#start(machine);
        });
      case 'DetachDisk': {
        const device = query.get('deviceName');
        if (!body.disks.some((one) => one.deviceName === device))
          throw invalid(`No disk ${device} is attached`);
        return begin(machine.name, () => {
          const disks = machine.body.disks.filter((one) => one.deviceName !== device);
          machine.body = { ...machine.body, disks };
        });
      }
      case 'AttachDisk': {
        const disk = this.#disk(zone, String(given['source']).split('/').at(-1)!);
        this.#requireFree(disk);
        return begin(machine.name, () => this.#attach(machine, given));
      }
      case 'SetLabels':
      case 'SetTags': {
        const isTags = verb === 'SetTags';
        const current = isTags ? (body['tags'] as Json)['fingerprint'] : body['labelFingerprint'];
        if (given[isTags ? 'fingerprint' : 'labelFingerprint'] !== current)
          throw new ApiError(412, 'conditionNotMet', 'The fingerprint does not match');
        return begin(machine.name, () => {
          const fingerprint = `${String(current)}+`;
          machine.body = {
            ...machine.body,
            ...(isTags
              ? { tags: { items: given['items'], fingerprint } }
              : { labels: given['labels'], labelFingerprint: fingerprint }),
          };
        });
      }
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

  #insert(zone: string, given: Json, begin: Begin): object {
    const name = String(given['name']);
    this.#newName(this.instances, name, given);
    const type = String(given['machineType']).split('/').at(-1)!;
    const confidential = given['confidentialInstanceConfig'] as Json | undefined;
    if (confidential?.['confidentialInstanceType'] === 'TDX') {
      if (!/^c3-standard-(4|8|22|44|88|176)$/.test(type))
        throw invalid(`The machine type ${type} does not support confidential instance type TDX`);
      if ((given['scheduling'] as Json | undefined)?.['onHostMaintenance'] !== 'TERMINATE')
        throw invalid('Confidential VMs need onHostMaintenance TERMINATE');
    }
    this.#look('MachineTypes.Get', { zone, machineType: type });
    const disks = (given['disks'] ?? []) as Json[];
    if (disks[0]?.['boot'] !== true) throw invalid('The first disk must be a boot disk');
    for (const [i, disk] of disks.entries()) {
      const params = disk['initializeParams'] as Json | undefined;
      if (params === undefined) {
        this.#requireFree(this.#disk(zone, String(disk['source']).split('/').at(-1)!));
        continue;
      }
      const image = this.#requireImage(params['sourceImage']);
      const features = ((image.body['guestOsFeatures'] ?? []) as Json[]).map((one) => one['type']);
      if (i === 0 && confidential !== undefined && !features.includes('TDX_CAPABLE'))
        throw invalid(`The image ${image.body['name']} does not have the guest OS feature TDX_CAPABLE`);
      this.#newName(this.disks, `${zone}/${String(params['diskName'] ?? name)}`, params);
    }
    return begin(name, async () => {
      const wanted = Number(type.split('-')[2]);
      if (this.exhausted.has(zone))
        throw new OperationError(
          'ZONE_RESOURCE_POOL_EXHAUSTED',
          `The zone '${zone}' does not have enough resources`,
        );
      if (this.#processors() + wanted > this.quota)
        throw new OperationError(
          'QUOTA_EXCEEDED',
          `Quota 'C3_CPUS' exceeded. Limit: ${this.quota}.0 in region us-central1.`,
        );
      const machine: Machine = {
        ...{ name, zone, serial: Buffer.alloc(0), serialStart: 0 },
        body: {
          ...this.#stamp({ ...given, zone, status: 'STAGING' }),
          tags: { ...(given['tags'] as Json | undefined), fingerprint: 'f' },
          labelFingerprint: 'f',
          disks: [],
        },
      };
      this.instances.set(name, machine);
      for (const disk of disks) {
        const params = disk['initializeParams'] as Json | undefined;
        if (params === undefined) this.#attach(machine, disk);
        else {
          const { diskName = name, diskSizeGb, sourceImage, labels } = params;
          this.#makeDisk(zone, { name: diskName, sizeGb: diskSizeGb, sourceImage, labels });
          this.#attach(machine, { ...disk, source: `zones/${zone}/disks/${String(diskName)}` });
        }
      }
      await this.#start(machine);
    });
  }

  async #start(machine: Machine): Promise<void> {
    const [nic] = machine.body['networkInterfaces'] as Json[];
    const number = ++this.#addresses;
    const accessConfigs = ((nic?.['accessConfigs'] ?? []) as Json[]).map((one) => ({
      ...one,
      natIP: `${this.#network}.${1 + (number % 250)}`,
    }));
    const networkIP = `10.128.0.${number}`;
    machine.body = {
      ...machine.body,
      networkInterfaces: [{ ...nic, networkIP, accessConfigs }],
      status: 'RUNNING',
    };
    machine.serialStart += machine.serial.length;
    machine.serial = Buffer.alloc(0);
    await this.power(machine, 'on');
  }

  #attach(machine: Machine, given: Json): void {
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

  #makeDisk(zone: string, given: Json): void {
    const name = String(given['name']);
    const image = given['sourceImage'] === undefined ? undefined : this.#requireImage(given['sourceImage']);
    const least = Number(image?.body['diskSizeGb'] ?? 1);
    if (given['sizeGb'] !== undefined && Number(given['sizeGb']) < least)
      throw new OperationError('RESOURCE_INVALID', `Disk ${name} is smaller than its image`);
    const made = this.#stamp({ sizeGb: String(least), ...given, zone, status: 'READY' });
    this.disks.set(`${zone}/${name}`, { ...made, archive: image?.archive });
  }

  #processors(): number {
    const sizes = [...this.instances.values()].map(({ body }) =>
      Number(String(body['machineType']).split('-').at(-1)),
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  }

  #machines(zone: string): Json[] {
    return [...this.instances.values()].filter((one) => one.zone === zone).map(({ body }) => body);
  }

  #machine(zone: string, name: string): Machine {
    const machine = this.instances.get(name);
    if (machine?.zone !== zone) throw notFound(`zones/${zone}/instances/${name}`);
    return machine;
  }

  #disk(zone: string, name: string): Json {
    return this.#find(this.disks, `${zone}/${name}`);
  }

  #requireImage(source: unknown): Image {
    return this.#find(this.images, String(source).split('/').at(-1)!);
  }

  #requireFree(disk: Json): void {
    for (const { name, body } of this.instances.values())
      for (const { source } of body.disks)
        if (diskKey(source) === `${String(disk['zone'])}/${String(disk['name'])}`)
          throw new ApiError(
            400,
            'resourceInUseByAnotherResource',
            `The disk resource '${String(disk['name'])}' is already being used by '${name}'`,
          );
  }

  #newName(known: ReadonlyMap<string, unknown>, key: string, given: Json): void {
    const name = key.split('/').at(-1)!;
    if (!NAME.test(name)) throw invalid(`Invalid value for field 'resource.name': '${name}'`);
    if (known.has(key)) throw new ApiError(409, 'alreadyExists', `The resource '${name}' already exists`);
    for (const [label, value] of Object.entries((given['labels'] ?? {}) as Record<string, string>))
      if (!LABEL_KEY.test(label) || !LABEL_VALUE.test(value))
        throw invalid(`Invalid label ${label}=${value}`);
  }

  #find<T>(known: ReadonlyMap<string, T>, key: string): T {
    const found = known.get(key);
    if (found === undefined) throw notFound(key);
    return found;
  }

  #stamp(given: Json): Json {
    return { ...given, creationTimestamp: this.now().toISOString() };
  }

  #list(all: readonly Json[], query: URLSearchParams): object {
    const found = this.#matching(all, query);
    const start = Number(query.get('pageToken') ?? 0);
    const items = found.slice(start, start + PAGE);
    return { items, ...(start + PAGE < found.length ? { nextPageToken: String(start + PAGE) } : {}) };
  }

  #matching(all: readonly Json[], query: URLSearchParams): Json[] {
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

type Begin = (target: string, finish: () => void | Promise<void>) => object;

function fail(error: Error): never {
  throw error;
}

function diskKey(source: string): string {
  const [zone, , name] = source.split('/').slice(-3);
  return `${zone}/${name}`;
}

function serialOutput({ serial, serialStart }: Machine, asked: number): object {
  const end = serialStart + serial.length;
  const start = Math.min(Math.max(asked, serialStart), end);
  const contents = serial.subarray(start - serialStart).toString('utf8');
  return { kind: 'compute#serialPortOutput', contents, start: String(start), next: String(end) };
}
