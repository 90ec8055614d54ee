import { utf8 } from '@dstack-cloud/encoding';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { TDVF_PAGE, type Tdvf, type TdvfSection } from './tdvf.ts';

/** One extension of MRTD: an operation, its guest address, zeros (Intel TDX module ABI, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND). */
const BLOCK = 128;
const CHUNK = 256;
const PAGE_ADD = utf8('MEM.PAGE.ADD');
const MR_EXTEND = utf8('MR.EXTEND');

/**
 * MRTD of a TD with this firmware, 48 bytes (docs/protocol/images.md section 4.1).
 * @param order `single-pass`: each page is added, then measured; `two-pass`: all pages of a section are added before
 * the first is measured
 */
export function tdvfMrtd(
  { file, sections }: Tdvf,
  order: 'single-pass' | 'two-pass',
  crypto: Pick<CryptoBackend, 'hash'>,
): Uint8Array {
  const out = new Uint8Array(sections.reduce((sum, section) => sum + bytesOf(section), 0));
  const view = new DataView(out.buffer);
  let at = 0;
  const block = (operation: Uint8Array, address: number): void => {
    out.set(operation, at);
    view.setBigUint64(at + 16, BigInt(address), true);
    at += BLOCK;
  };
  const add = (section: TdvfSection, page: number): void => {
    if (!section.augmented) block(PAGE_ADD, section.address + page);
  };
  const measure = (section: TdvfSection, page: number): void => {
    if (!section.extend) return;
    for (let chunk = page; chunk < page + TDVF_PAGE; chunk += CHUNK) {
      block(MR_EXTEND, section.address + chunk);
      const start = section.offset + chunk;
      out.set(file.subarray(start, start + CHUNK), at);
      at += CHUNK;
    }
  };
  for (const section of sections) {
    const passes = order === 'single-pass' ? [[add, measure]] : [[add], [measure]];
    for (const steps of passes) {
      for (let page = 0; page < section.memorySize; page += TDVF_PAGE) {
        for (const step of steps) step(section, page);
      }
    }
  }
  return crypto.hash('sha384', out);
}

function bytesOf({ memorySize, augmented, extend }: TdvfSection): number {
  const pages = memorySize / TDVF_PAGE;
  const perPage = (augmented ? 0 : BLOCK) + (extend ? (TDVF_PAGE / CHUNK) * (BLOCK + CHUNK) : 0);
  return pages * perPage;
}
