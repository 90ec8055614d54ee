import { defaultCrypto } from '#crypto';
import { authenticodeDigest } from '../../authenticode/authenticode.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { AttestationError } from '../../errors.ts';
import { tdvfMrtd } from './mrtd.ts';
import { patchedKernel } from './patched-kernel.ts';
import { parseTdvf, TDVF_HOB, TDVF_TEMPORARY, type Tdvf } from './tdvf.ts';
import type { TdxMeasurementDocument } from './tdx-document.ts';

/** The parts of an OS image that a TD on bare metal measures (docs/protocol/images.md section 1). */
export interface TdxImageParts {
  /** OVMF with TDX metadata. */
  readonly firmware: Uint8Array;
  /** bzImage with EFI stub. */
  readonly kernel: Uint8Array;
  readonly initrd: { readonly bytes: number; readonly sha384: Uint8Array };
  /** `cmdline` of metadata.json. */
  readonly commandLine: string;
}

/** QEMU names the initrd to the EFI stub by this addition. */
const INITRD_ARGUMENT = ' initrd=initrd';
const OVMF_VARIANT = 'pre202505';

/**
 * What an image measures on a machine with this much memory: the same facts that the document of a TDX-lite image
 * states, but taken from the image itself (docs/protocol/images.md section 4).
 * @param memory bytes
 * @throws AttestationError `malformed`, `too-large`, `unsupported`, `image`
 */
export function measureTdxImage(
  { firmware, kernel, initrd, commandLine }: TdxImageParts,
  memory: number,
  crypto: Pick<CryptoBackend, 'hash'> = defaultCrypto,
): TdxMeasurementDocument {
  const tdvf = parseTdvf(firmware);
  const patched = patchedKernel(kernel, { memory, initrdBytes: initrd.bytes });
  return {
    commandLineSha384: crypto.hash('sha384', utf16(`${commandLine}${INITRD_ARGUMENT}\0`)),
    kernelAuthenticode: authenticodeDigest(patched, 'sha384', crypto).digest,
    initrdSha384: initrd.sha384,
    ovmfVariant: OVMF_VARIANT,
    mrtd: {
      singlePass: tdvfMrtd(tdvf, 'single-pass', crypto),
      twoPass: tdvfMrtd(tdvf, 'two-pass', crypto),
    },
    hob: hobOf(tdvf),
  };
}

/** The firmware accepts the pages of the TD HOB and its temporary memory before it builds the rest of the list. */
function hobOf({ sections }: Tdvf): TdxMeasurementDocument['hob'] {
  const hobs = sections.filter(({ type }) => type === TDVF_HOB);
  if (hobs.length !== 1) {
    throw new AttestationError('malformed', 'Firmware of a TD has one TD HOB section', {
      expected: '1',
      found: String(hobs.length),
    });
  }
  return {
    address: hobs[0]!.address,
    accepted: sections
      .filter(({ type }) => type === TDVF_HOB || type === TDVF_TEMPORARY)
      .map(({ address, memorySize }) => ({ start: address, end: address + memorySize })),
  };
}

/** UTF-16LE, as the EFI stub gets and measures its load options. */
function utf16(text: string): Uint8Array {
  const out = new Uint8Array(2 * text.length);
  const view = new DataView(out.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(2 * i, text.charCodeAt(i), true);
  return out;
}
