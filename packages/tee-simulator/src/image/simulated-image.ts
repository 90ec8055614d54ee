import { encodeCbor, toBase64, toHex, utf8 } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import { replay, sha256, sha384 } from './hash.ts';
import { encodeTdHobLayout, type TdHobLayout, tdHobList } from './td-hob.ts';

/** The machine that the image boots on: it decides MRTD and RTMR 0 to 2 together with the image. */
export interface SimulatedMachine {
  /** Name of the OS image; any text. */
  readonly image: string;
  readonly cpuCount?: number;
  /** Bytes; 2 GiB exactly or 2.75 GiB and more, as the measurement rules demand. Default 4 GiB. */
  readonly memorySize?: number;
}

/** One boot event in log order. */
export interface SimulatedBootEvent {
  /** RTMR 0 to 2. */
  readonly rtmr: number;
  readonly type: number;
  readonly digest: Uint8Array;
  readonly data: Uint8Array;
}

/** A simulated OS image on a simulated machine. Nothing of it is run; only its measurements exist. */
export interface SimulatedBoot {
  readonly mrTd: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array];
  readonly events: readonly SimulatedBootEvent[];
  /** 32 bytes: SHA-256 of the image's checksum file. */
  readonly osImageHash: Uint8Array;
  /** The vm_config that lets a verifier recompute all of this (docs/protocol/images.md sections 3 and 5.1). */
  readonly vmConfig: Readonly<Record<string, unknown>>;
}

const DEFAULT_MEMORY = 4 * 1024 ** 3;
const TWO_GIB = 2 ** 31;
const SPLIT_MEMORY = 0xb000_0000;
const MEASUREMENT_FILE = 'measurement.tdx.cbor';

const LAYOUT: TdHobLayout = {
  tdHob: 0x809000n,
  accepted: [
    { start: 0x800000n, length: 0x6000n },
    { start: 0x809000n, length: 0x2000n },
    { start: 0x80b000n, length: 0x2000n },
    { start: 0x810000n, length: 0x10000n },
  ],
};

/** Event types of TCG PC Client Platform Firmware Profile, section 10.4.1. */
const TYPE = {
  separator: 0x4,
  eventTag: 0x6,
  platformConfigFlags: 0xa,
  variableDriverConfig: 0x80000001,
  variableBoot: 0x80000002,
  bootApplication: 0x80000003,
  action: 0x80000007,
  platformFirmwareBlob2: 0x8000000a,
  handoffTables2: 0x8000000b,
} as const;

const GLOBAL_VARIABLE = '61dfe48bca93d211aa0d00e098032b8c';
const IMAGE_SECURITY = 'cbb219d73a3d9645a3bcdad00e67656f';
/** Constants of the firmware generation (docs/protocol/images.md section 4.2). */
const CFV =
  '344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790';
const BOOT_0000 =
  '23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298';

/**
 * The measurements of a simulated boot: the real rules, applied to an image whose firmware, kernel, command line and
 * initrd are nothing but hashes of its name.
 * @throws SimulatorError `argument`
 */
export function simulatedBoot(machine: SimulatedMachine): SimulatedBoot {
  const { image, cpuCount = 2, memorySize = DEFAULT_MEMORY } = machine;
  if (!Number.isSafeInteger(cpuCount) || cpuCount < 1 || cpuCount > 4096) {
    throw new SimulatorError('argument', `${cpuCount} is no number of processors`);
  }
  if (!Number.isSafeInteger(memorySize) || (memorySize !== TWO_GIB && memorySize < SPLIT_MEMORY)) {
    throw new SimulatorError('argument', 'Memory must be 2 GiB, or 2.75 GiB and more');
  }
  const part = (name: string) => sha384(`simulated image ${image}: ${name}`);
  const measured = {
    kernel: part('kernel'),
    commandLine: part('command line'),
    initrd: part('initrd'),
    mrTd: part('firmware'),
  };
  const document = measurementDocument(measured, part('firmware, two passes'));
  return bootOf(measured, { cpuCount, memorySize }, document.osImageHash, {
    spec_version: 1,
    os_image_hash: toHex(document.osImageHash),
    cpu_count: cpuCount,
    memory_size: memorySize,
    qemu_version: '9.1.0',
    pci_hole64_size: 0,
    hugepages: false,
    num_gpus: 0,
    num_nvswitches: 0,
    hotplug_off: false,
    image,
    host_share_mode: '9p',
    ovmf_variant: 'pre202505',
    tdx_attestation_variant: 'lite',
    tdx_measurement: document.json,
  });
}

/** A boot of these measured parts on this machine. */
export function bootOf(
  parts: MeasuredParts,
  { cpuCount, memorySize }: { readonly cpuCount: number; readonly memorySize: number },
  osImageHash: Uint8Array,
  vmConfig: SimulatedBoot['vmConfig'],
  layout: TdHobLayout = LAYOUT,
): SimulatedBoot {
  const hardware = `${cpuCount} processors, ${memorySize} bytes`;
  const events = bootEvents(parts, tdHobList(layout, BigInt(memorySize)), (table) =>
    sha384(`simulated ACPI ${table}: ${hardware}`),
  );
  const register = (rtmr: number) =>
    replay(events.filter((event) => event.rtmr === rtmr).map((event) => event.digest));
  return {
    mrTd: parts.mrTd,
    rtmrs: [register(0), register(1), register(2)],
    events,
    osImageHash,
    vmConfig,
  };
}

export interface MeasuredParts {
  readonly kernel: Uint8Array;
  readonly commandLine: Uint8Array;
  readonly initrd: Uint8Array;
  readonly mrTd: Uint8Array;
}

function measurementDocument(
  parts: MeasuredParts,
  twoPass: Uint8Array,
): { osImageHash: Uint8Array; json: { checksum_file: string; measurement: string } } {
  const measurement = encodeCbor({
    version: 3,
    image: {
      cmdline_sha384: parts.commandLine,
      kernel_authenticode: parts.kernel,
      initrd_sha384: parts.initrd,
    },
    tdvf: {
      ovmf: 'pre202505',
      mrtd: { single_pass: parts.mrTd, two_pass: twoPass },
      td_hob: encodeTdHobLayout(LAYOUT),
    },
  });
  const checksumFile = utf8(`${toHex(sha256(measurement))}  ${MEASUREMENT_FILE}\n`);
  return {
    osImageHash: sha256(checksumFile),
    json: { checksum_file: toBase64(checksumFile), measurement: toBase64(measurement) },
  };
}

/**
 * The events in the order of a real boot's log; each register's own order is that of docs/protocol/images.md section 4.
 */
export function bootEvents(
  parts: Pick<MeasuredParts, 'kernel' | 'commandLine' | 'initrd'>,
  tdHob: Uint8Array,
  acpi: (table: 'loader' | 'rsdp' | 'tables') => Uint8Array,
): SimulatedBootEvent[] {
  const event = (rtmr: number, type: number, digest: Uint8Array, data: Uint8Array = new Uint8Array()) => ({
    rtmr,
    type,
    digest,
    data,
  });
  const variable = (name: string, vendor: string) =>
    event(0, TYPE.variableDriverConfig, sha384(variableData(name, vendor)), variableData(name, vendor));
  const action = (text: string) => event(1, TYPE.action, sha384(text), utf8(text));
  const separator = (rtmr: number) =>
    event(rtmr, TYPE.separator, sha384(new Uint8Array(4)), new Uint8Array(4));
  const acpiData = utf8('ACPI DATA');
  const table = (name: 'loader' | 'rsdp' | 'tables') =>
    event(0, TYPE.platformConfigFlags, acpi(name), acpiData);
  return [
    event(0, TYPE.handoffTables2, sha384(tdHob)),
    event(0, TYPE.platformFirmwareBlob2, hex(CFV)),
    variable('SecureBoot', GLOBAL_VARIABLE),
    variable('PK', GLOBAL_VARIABLE),
    variable('KEK', GLOBAL_VARIABLE),
    variable('db', IMAGE_SECURITY),
    variable('dbx', IMAGE_SECURITY),
    separator(0),
    table('loader'),
    table('rsdp'),
    table('tables'),
    event(1, TYPE.bootApplication, parts.kernel),
    event(0, TYPE.variableBoot, sha384(new Uint8Array(2)), new Uint8Array(2)),
    event(0, TYPE.variableBoot, hex(BOOT_0000)),
    action('Calling EFI Application from Boot Option'),
    separator(1),
    event(2, TYPE.eventTag, parts.commandLine),
    event(2, TYPE.eventTag, parts.initrd),
    action('Exit Boot Services Invocation'),
    action('Exit Boot Services Returned with Success'),
  ];
}

/** UEFI_VARIABLE_DATA without contents: vendor GUID, name length in characters, no data, name. */
function variableData(name: string, vendor: string): Uint8Array {
  const data = new Uint8Array(32 + 2 * name.length);
  data.set(hex(vendor));
  const view = new DataView(data.buffer);
  view.setBigUint64(16, BigInt(name.length), true);
  for (const [i, character] of [...name].entries()) {
    view.setUint16(32 + 2 * i, character.charCodeAt(0), true);
  }
  return data;
}

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
