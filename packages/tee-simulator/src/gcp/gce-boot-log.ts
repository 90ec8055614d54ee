import { ByteWriter, utf8 } from '@dstack-cloud/encoding';
import { sha256 } from '../image/hash.ts';

const EV_NO_ACTION = 3;
const TPM_ALG_SHA256 = 0x000b;
const SHA1_BYTES = 20;

/** TCG PC Client Platform Firmware Profile section 10.4.1. */
const TYPE = {
  separator: 0x4,
  eventTag: 0x6,
  crtmVersion: 0x8,
  ipl: 0xd,
  nonHostInfo: 0x11,
  variableDriverConfig: 0x80000001,
  bootApplication: 0x80000003,
  action: 0x80000007,
  gpt: 0x80000006,
} as const;

/** One event of the firmware's log. */
export interface TpmLogEvent {
  readonly pcr: number;
  readonly type: number;
  /** SHA-256. */
  readonly digest: Uint8Array;
  readonly data: Uint8Array;
}

/** SHA-256 digests of an image that GCE boots. */
export interface GceImage {
  /** Authenticode digest of the UKI. */
  readonly uki: Uint8Array;
  /** Authenticode digest of the kernel inside. */
  readonly kernel: Uint8Array;
  /** Load options and initramfs, as the kernel measures them. */
  readonly commandLine: Uint8Array;
  readonly initrd: Uint8Array;
  /** UEFI_GPT_DATA of the boot disk. */
  readonly gpt: Uint8Array;
  /** Whether its stub measures the sections of the UKI, as systemd's does. */
  readonly sections: boolean;
}

/**
 * The events of a GCE confidential VM that boots a UKI, in GCE's shape: firmware and technology in PCR 0 (the real
 * values: "GCE Virtual Firmware v2", TDX), the UKI and its kernel as third and fourth event of PCR 2, load options and
 * initrd in PCR 9, the sections of the UKI in PCR 11 where its stub measures them (docs/protocol/event-logs.md section 1).
 */
export function gceBootEvents(image: GceImage): TpmLogEvent[] {
  const measured = (pcr: number, type: number, data: Uint8Array): TpmLogEvent => ({
    pcr,
    type,
    digest: sha256(data),
    data,
  });
  const digested = (pcr: number, type: number, digest: Uint8Array, text: string): TpmLogEvent => ({
    pcr,
    type,
    digest,
    data: utf8(text),
  });
  const separator = (pcr: number) => measured(pcr, TYPE.separator, new Uint8Array(4));
  const sections = { '.linux': image.kernel, '.cmdline': image.commandLine, '.initrd': image.initrd };
  const measuredSections = image.sections ? Object.entries(sections) : [];
  return [
    measured(0, TYPE.crtmVersion, utf16('GCE Virtual Firmware v2\0')),
    measured(0, TYPE.nonHostInfo, nonHostInfo()),
    measured(7, TYPE.variableDriverConfig, utf8('SecureBoot')),
    measured(4, TYPE.action, utf8('Calling EFI Application from Boot Option')),
    ...[0, 1, 2, 3, 4, 5, 6, 7].map(separator),
    digested(2, TYPE.gpt, image.gpt, 'GPT'),
    digested(2, TYPE.bootApplication, image.uki, 'UKI'),
    ...measuredSections.flatMap(([name, digest]) => [
      measured(11, TYPE.ipl, utf8(`${name}\0`)),
      digested(11, TYPE.ipl, digest, name),
    ]),
    digested(2, TYPE.bootApplication, image.kernel, 'kernel'),
    digested(9, TYPE.eventTag, image.commandLine, 'LOADED_IMAGE::LoadOptions'),
    digested(9, TYPE.eventTag, image.initrd, 'Linux initrd'),
  ];
}

/** The log as `binary_bios_measurements` has it, one SHA-256 bank (docs/protocol/event-logs.md section 2.1). */
export function writeTpmLog(events: readonly TpmLogEvent[]): Uint8Array {
  const specId = new ByteWriter()
    .bytes(utf8('Spec ID Event03\0'))
    .u32le(0)
    .u8(0)
    .u8(2)
    .u8(0)
    .u8(2)
    .u32le(1)
    .u16le(TPM_ALG_SHA256)
    .u16le(32)
    .u8(0)
    .finish();
  const writer = new ByteWriter()
    .u32le(0)
    .u32le(EV_NO_ACTION)
    .bytes(new Uint8Array(SHA1_BYTES))
    .u32le(specId.length)
    .bytes(specId);
  for (const { pcr, type, digest, data } of events) {
    writer.u32le(pcr).u32le(type).u32le(1).u16le(TPM_ALG_SHA256).bytes(digest).u32le(data.length).bytes(data);
  }
  return writer.finish();
}

/** "GCE NonHostInfo", then the technology of the VM: 3 is TDX. */
function nonHostInfo(): Uint8Array {
  const info = new Uint8Array(32);
  info.set(utf8('GCE NonHostInfo\0'));
  info[16] = 3;
  return info;
}

function utf16(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'utf16le'));
}
