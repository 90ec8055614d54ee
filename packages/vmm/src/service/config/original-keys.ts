/** What becomes of a key of the original's `vmm.toml` that this service does not have. */
interface OriginalKey {
  /** A key, or a table with all of its keys. */
  readonly key: string;
  /** Values that say what is the case here anyway; `any` for a key whose value changes nothing that callers rely on. */
  readonly taken: 'any' | readonly unknown[];
  /** Why it has no effect, or what to do instead. */
  readonly why: string;
}

const SUPERVISED = 'each machine has a supervisor of its own';
const MEASURED = 'it follows from the QEMU that runs the machine';
const PASST = 'there is no mode passt; mode user has addresses of QEMU’s own';

/**
 * Every key of the original, of either line, that has no line in the schema, or one without effect. A value that would be
 * relied upon, such as another user for QEMU, is refused; the others are named in a warning.
 */
export const ORIGINAL_KEYS: readonly OriginalKey[] = [
  ...['workers', 'max_blocking', 'keep_alive', 'reuse'].map((key) => ({
    key,
    taken: 'any' as const,
    why: 'of another web server',
  })),
  { key: 'ident', taken: 'any', why: 'answers name the program and its version' },
  { key: 'temp_dir', taken: 'any', why: 'files are staged beside where they belong' },
  { key: 'event_buffer_size', taken: 'any', why: 'the last 20 events of a guest are kept' },
  { key: 'supervisor', taken: 'any', why: SUPERVISED },
  {
    key: 'host_api',
    taken: 'any',
    why: 'each machine has a host API of its own, at port 10000 of its vsock',
  },
  { key: 'netd', taken: 'any', why: 'machines use a bridge through QEMU’s bridge helper' },
  { key: 'cvm.qmp_socket', taken: 'any', why: 'each machine has a control socket' },
  {
    key: 'cvm.user',
    taken: [''],
    why: 'machines run as the user of the service: start dstack-vmm as that user',
  },
  { key: 'cvm.use_mrconfigid', taken: [true], why: 'a TD is always bound to its application' },
  { key: 'cvm.qemu_single_pass_add_pages', taken: 'any', why: MEASURED },
  { key: 'cvm.qemu_pic', taken: 'any', why: MEASURED },
  { key: 'cvm.qemu_version', taken: 'any', why: 'QEMU is asked for its version' },
  { key: 'cvm.qemu_pci_hole64_size', taken: [0], why: 'the size is QEMU’s own' },
  { key: 'cvm.qemu_hotplug_off', taken: [false], why: 'QEMU’s own setting is measured' },
  { key: 'cvm.host_share_mode', taken: 'any', why: 'a guest finds its files on a read-only disk (vhd)' },
  { key: 'cvm.product', taken: 'any', why: 'machines say that they are dstack' },
  {
    key: 'cvm.tdx_attestation_variant',
    taken: ['auto', 'lite'],
    why: 'machines have evidence of variant lite',
  },
  { key: 'cvm.instance_id', taken: 'any', why: 'each machine draws the seed of its instance id' },
  { key: 'cvm.volumes_dir', taken: [''], why: 'this version has no volumes beside the data disk: remove it' },
  { key: 'cvm.network_filter', taken: [], why: 'this version does not confine guests: filter on the bridge' },
  { key: 'cvm.log', taken: 'any', why: 'a log has 4 MiB and three older files' },
  { key: 'cvm.networking.dhcp_start', taken: 'any', why: 'QEMU gives the first guest address, 10.0.2.15' },
  ...['passt_exec', 'interface', 'address', 'netmask', 'gateway', 'dns', 'map_host_loopback'].map((name) => ({
    key: `cvm.networking.${name}`,
    taken: 'any' as const,
    why: PASST,
  })),
  ...['map_guest_addr', 'no_map_gw', 'ipv4_only'].map((name) => ({
    key: `cvm.networking.${name}`,
    taken: 'any' as const,
    why: PASST,
  })),
  { key: 'cvm.networking.netdev', taken: [''], why: 'there is no mode custom: use a bridge' },
];

/** Older names of keys. */
export const OLDER_NAMES: readonly (readonly [from: string, to: string])[] = [
  ['cvm.tproxy_urls', 'cvm.gateway_urls'],
  ['image.path', 'image_path'],
];

type Table = { [name: string]: unknown };

interface WithoutOriginal {
  /** What is left for the schema. */
  readonly table: unknown;
  /** A sentence for each key that has no effect. */
  readonly warnings: readonly string[];
  /** A line for each that is refused. */
  readonly problems: readonly string[];
}

/** Takes the original's keys out of a configuration; what is not a table is left to the schema. */
export function withoutOriginalKeys(source: unknown): WithoutOriginal {
  if (!isTable(source)) return { table: source, warnings: [], problems: [] };
  const table = structuredClone(source);
  const [warnings, problems]: [string[], string[]] = [[], []];
  for (const [from, to] of OLDER_NAMES) {
    const value = take(table, from);
    if (value === undefined) continue;
    if (valueAt(table, to) !== undefined) problems.push(`${from}: ${to} is given too; keep one of them`);
    else put(table, to, value);
  }
  for (const { key, taken, why } of ORIGINAL_KEYS) {
    const value = take(table, key);
    if (value === undefined) continue;
    if (taken === 'any') warnings.push(`${key} has no effect: ${why}`);
    else if (!taken.some((one) => one === value))
      problems.push(
        `${key}: ${taken.length === 0 ? 'is not here' : `can only be ${taken.map(shown).join(' or ')}`}: ${why}`,
      );
  }
  return { table, warnings, problems };
}

const shown = (value: unknown): string => JSON.stringify(value);

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

function holderOf(table: Table, key: string): { readonly holder: Table; readonly name: string } | undefined {
  const path = key.split('.');
  const name = path.pop() ?? '';
  let holder: unknown = table;
  for (const step of path) holder = isTable(holder) && Object.hasOwn(holder, step) ? holder[step] : undefined;
  return isTable(holder) ? { holder, name } : undefined;
}

function valueAt(table: Table, key: string): unknown {
  const place = holderOf(table, key);
  return place !== undefined && Object.hasOwn(place.holder, place.name)
    ? place.holder[place.name]
    : undefined;
}

/** Removes a key, and a table that held nothing else. */
function take(table: Table, key: string): unknown {
  const value = valueAt(table, key);
  const place = holderOf(table, key);
  if (value === undefined || place === undefined) return undefined;
  delete place.holder[place.name];
  const parent = key.slice(0, key.lastIndexOf('.'));
  if (key.includes('.') && parent !== 'cvm' && Object.keys(place.holder).length === 0) take(table, parent);
  return value;
}

function put(table: Table, key: string, value: unknown): void {
  const [first = '', second] = key.split('.');
  if (second === undefined) table[first] = value;
  else {
    const inner = table[first];
    if (isTable(inner)) inner[second] = value;
  }
}
