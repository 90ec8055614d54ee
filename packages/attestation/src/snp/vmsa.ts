import { AttestationError } from '../errors.ts';

const PAGE = 4096;

/** Family, model and stepping by QEMU's CPU model; others are refused (docs/protocol/images.md section 5.4). */
const CPU_TYPES: readonly [RegExp, readonly [number, number, number]][] = [
  [/^epyc(-v[1-4]|-ibpb)?$/, [23, 1, 2]],
  [/^epyc-rome(-v[1-3])?$/, [23, 49, 0]],
  [/^epyc-milan(-v[12])?$/, [25, 1, 1]],
  [/^epyc-genoa(-v1)?$/, [25, 17, 0]],
];

/** Segment registers at reset: offset, selector, attributes, limit. CS is set apart. */
const SEGMENTS: readonly [number, number, number, number][] = [
  [0x000, 0, 0x0093, 0xffff], // ES
  [0x020, 0, 0x0093, 0xffff], // SS
  [0x030, 0, 0x0093, 0xffff], // DS
  [0x040, 0, 0x0093, 0xffff], // FS
  [0x050, 0, 0x0093, 0xffff], // GS
  [0x060, 0, 0x0000, 0xffff], // GDTR
  [0x070, 0, 0x0082, 0xffff], // LDTR
  [0x080, 0, 0x0000, 0xffff], // IDTR
  [0x090, 0, 0x008b, 0xffff], // TR
];

/** 64-bit fields at reset (AMD 24593 table B-4; values as KVM sets them). */
const QWORDS: readonly [number, bigint][] = [
  [0x0d0, 0x1000n], // EFER
  [0x148, 0x40n], // CR4
  [0x158, 0x10n], // CR0
  [0x160, 0x400n], // DR7
  [0x168, 0xffff0ff0n], // DR6
  [0x170, 0x2n], // RFLAGS
  [0x268, 0x0007040600070406n], // PAT
  [0x3e8, 0x1n], // XCR0
];

/**
 * The save area with which a vCPU starts, as it is measured at launch.
 * @param eip reset address: fffffff0 for vCPU 0, the firmware's reset_eip for the others
 * @param cpuType QEMU's name of the CPU model, in any case
 * @throws AttestationError `image` for unknown CPU models
 */
export function vmsaPage(eip: number, cpuType: string, guestFeatures: bigint): Uint8Array {
  const page = new Uint8Array(PAGE);
  const view = new DataView(page.buffer);
  const segment = (
    offset: number,
    selector: number,
    attributes: number,
    limit: number,
    base: number,
  ): void => {
    view.setUint16(offset, selector, true);
    view.setUint16(offset + 2, attributes, true);
    view.setUint32(offset + 4, limit, true);
    view.setBigUint64(offset + 8, BigInt(base), true);
  };
  for (const [offset, selector, attributes, limit] of SEGMENTS)
    segment(offset, selector, attributes, limit, 0);
  segment(0x010, 0xf000, 0x009b, 0xffff, (eip & 0xffff0000) >>> 0);
  for (const [offset, value] of QWORDS) view.setBigUint64(offset, value, true);
  view.setBigUint64(0x178, BigInt(eip & 0xffff), true); // RIP
  view.setBigUint64(0x310, BigInt(cpuidSignature(cpuType)), true); // RDX
  view.setBigUint64(0x3b0, guestFeatures, true); // SEV_FEATURES
  view.setUint32(0x408, 0x1f80, true); // MXCSR
  view.setUint16(0x410, 0x037f, true); // FCW
  return page;
}

/** EAX of CPUID 1 (AMD 24594, CPUID Fn0000_0001_EAX): the extended family counts from 15. */
function cpuidSignature(cpuType: string): number {
  const known = CPU_TYPES.find(([pattern]) => pattern.test(cpuType.toLowerCase()));
  if (!known) {
    throw new AttestationError('image', 'vcpu_type is unknown', {
      expected: 'EPYC, EPYC-Rome, EPYC-Milan or EPYC-Genoa',
      found: cpuType.slice(0, 64),
    });
  }
  const [family, model, stepping] = known[1];
  return ((family - 15) << 20) | ((model >> 4) << 16) | (15 << 8) | ((model & 15) << 4) | stepping;
}
