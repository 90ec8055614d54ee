import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import type { TdxEvent } from '../../attestation.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { AttestationError } from '../../errors.ts';
import { replayDigests } from '../../events/replay.ts';
import type { ImageConfig } from './image-config.ts';
import { tdHobList } from './td-hob.ts';
import type { TdxMeasurementDocument } from './tdx-document.ts';

const EV_PLATFORM_CONFIG_FLAGS = 0x0a;
const ACPI_NAMES = ['acpi-loader', 'acpi-rsdp', 'acpi-tables'] as const;
/** Contents of the configuration volume of OVMF as dstack builds it (docs/protocol/images.md section 4.2). */
const CFV =
  '344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790';
/** Boot0000, the built-in shell's load option (place 13). */
const BOOT0000 =
  '23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298';
const EFI_GLOBAL = '61dfe48bca93d211aa0d00e098032b8c';
const EFI_IMAGE_SECURITY = 'cbb219d73a3d9645a3bcdad00e67656f';
const VARIABLES: readonly [string, string][] = [
  ['SecureBoot', EFI_GLOBAL],
  ['PK', EFI_GLOBAL],
  ['KEK', EFI_GLOBAL],
  ['db', EFI_IMAGE_SECURITY],
  ['dbx', EFI_IMAGE_SECURITY],
];
const DEFAULT_QEMU = '9.1.0';
/** Memory sizes at which low memory ends at 2 GiB. */
const LITE_MEMORY = { exactly: 0x80000000, atLeast: 0xb0000000 } as const;

/** Members of a vm_config that the registers depend on. */
export const REGISTER_MEMBERS = [
  'ovmf_variant',
  'memory_size',
  'qemu_single_pass_add_pages',
  'qemu_version',
] as const;

/** MRTD and RTMR0 to 2 that a TD of this image and configuration has. */
export interface TdxRegisters {
  readonly mrtd: Uint8Array;
  readonly rtmr0: Uint8Array;
  readonly rtmr1: Uint8Array;
  readonly rtmr2: Uint8Array;
}

/**
 * Recomputes the registers of a "TDX lite" boot from the image's document (docs/protocol/images.md section 5.1). The
 * document has one digest of the kernel, which holds only where QEMU puts the initrd at the usual place.
 * @param acpi as `acpiDigests` gives them
 * @throws AttestationError `image`
 */
export function tdxLiteRegisters(
  document: TdxMeasurementDocument,
  config: ImageConfig,
  acpi: readonly Uint8Array[],
  crypto: Pick<CryptoBackend, 'hash'>,
): TdxRegisters {
  const memory = memorySize(config);
  if (memory !== LITE_MEMORY.exactly && memory < LITE_MEMORY.atLeast) {
    throw new AttestationError('image', 'memory_size must be 2 GiB or at least 2.75 GiB', {
      expected: `${LITE_MEMORY.exactly} or >= ${LITE_MEMORY.atLeast}`,
      found: String(memory),
    });
  }
  return tdxRegisters(document, config, acpi, crypto);
}

/** `memory_size` of a configuration, in bytes. @throws AttestationError `image` */
export function memorySize(config: ImageConfig): number {
  const memory = config.members['memory_size'];
  if (typeof memory !== 'number') throw new AttestationError('image', 'memory_size is missing or no number');
  return memory;
}

/**
 * The registers of a boot: everything from what the image measures and from the configuration, but for the three ACPI
 * digests, which are taken from the event log as they are (docs/protocol/images.md section 5.1).
 * @param document of a TDX-lite image, or as `measureTdxImage` makes it for the same memory size
 * @param acpi as `acpiDigests` gives them
 * @throws AttestationError `image`
 */
export function tdxRegisters(
  document: TdxMeasurementDocument,
  config: ImageConfig,
  acpi: readonly Uint8Array[],
  crypto: Pick<CryptoBackend, 'hash'>,
): TdxRegisters {
  const variant = config.members['ovmf_variant'];
  if (variant !== undefined && variant !== null && variant !== document.ovmfVariant) {
    throw new AttestationError('image', 'ovmf_variant of the configuration is not that of the document', {
      expected: document.ovmfVariant,
      found: String(variant).slice(0, 64),
    });
  }
  const memory = memorySize(config);
  const sha384 = (...parts: Uint8Array[]): Uint8Array => crypto.hash('sha384', ...parts);
  const separator = sha384(new Uint8Array(4));
  const action = (text: string): Uint8Array => sha384(utf8(text));
  const rtmr0 = [
    sha384(tdHobList(document.hob, memory)),
    fromHex(CFV),
    ...VARIABLES.map(([name, guid]) => sha384(variableEvent(name, guid))),
    separator,
    ...acpi,
    sha384(new Uint8Array(2)), // BootOrder: only 0000.
    fromHex(BOOT0000),
  ];
  const rtmr1 = [
    document.kernelAuthenticode,
    action('Calling EFI Application from Boot Option'),
    separator,
    action('Exit Boot Services Invocation'),
    action('Exit Boot Services Returned with Success'),
  ];
  return {
    mrtd: isTwoPass(config) ? document.mrtd.twoPass : document.mrtd.singlePass,
    rtmr0: replayDigests(rtmr0, 'sha384'),
    rtmr1: replayDigests(rtmr1, 'sha384'),
    rtmr2: replayDigests([document.commandLineSha384, document.initrdSha384], 'sha384'),
  };
}

/**
 * Digests of loader, RSDP and tables, each there once; there must be no fourth ACPI event.
 * @throws AttestationError `event-log`
 */
export function acpiDigests(events: readonly TdxEvent[]): Uint8Array[] {
  const acpi = events.filter(
    (event) =>
      event.imr === 0 && event.eventType === EV_PLATFORM_CONFIG_FLAGS && isAcpiData(event.eventPayload),
  );
  const found = acpi.map((event) => event.event).sort();
  if (found.join() !== [...ACPI_NAMES].join()) {
    throw new AttestationError('event-log', 'The event log must have the three ACPI events once each', {
      expected: ACPI_NAMES.join(', '),
      found: found.slice(0, 8).join(', ').slice(0, 256) || 'none',
    });
  }
  return ACPI_NAMES.map((name) => {
    const { digest } = acpi.find((event) => event.event === name)!;
    if (digest.length !== 48)
      throw new AttestationError('event-log', `The ${name} event has no SHA-384 digest`);
    return digest;
  });
}

function isAcpiData(payload: Uint8Array): boolean {
  return payload.length === 9 && toHex(payload) === '414350492044415441';
}

/**
 * Whether QEMU added all pages of a section before it measured them. The original passes
 * `qemu_single_pass_add_pages` into its two-pass option, so `true` selects two passes (docs/protocol/images.md section
 * 4.1).
 */
function isTwoPass(config: ImageConfig): boolean {
  const explicit = config.members['qemu_single_pass_add_pages'];
  if (typeof explicit === 'boolean') return explicit;
  const version = config.members['qemu_version'] ?? DEFAULT_QEMU;
  const major = typeof version === 'string' ? Number.parseInt(version, 10) : Number.NaN;
  if (!(major >= 8)) {
    throw new AttestationError('image', 'qemu_version is not supported', {
      expected: '8.0 or later',
      found: String(version).slice(0, 32),
    });
  }
  return major === 8;
}

/** UEFI_VARIABLE_DATA of an empty variable: GUID, name length in characters, data length, UTF-16LE name. */
function variableEvent(name: string, guid: string): Uint8Array {
  const out = new Uint8Array(32 + 2 * name.length);
  out.set(fromHex(guid));
  const view = new DataView(out.buffer);
  view.setBigUint64(16, BigInt(name.length), true);
  for (let i = 0; i < name.length; i++) view.setUint16(32 + 2 * i, name.charCodeAt(i), true);
  return out;
}
