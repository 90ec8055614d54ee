import { concatBytes, fromHex, utf8 } from '@dstack-cloud/encoding';
import type { CryptoBackend } from '../crypto/backend.ts';
import { AttestationError } from '../errors.ts';
import { SECTION, type SnpMeasurementDocument, type SnpSection } from './measurement-document.ts';
import { vmsaPage } from './vmsa.ts';

const PAGE = 4096;
const VMSA_GPA = 0xfffffffff000n;
const RESET_VECTOR = 0xfffffff0;
const MAX_VCPUS = 512;
/** PAGE_INFO page types (AMD 56860, SNP_LAUNCH_UPDATE). */
const PAGE_TYPE = { normal: 1, vmsa: 2, zero: 3, secrets: 5, cpuid: 6 } as const;
/** Pages measured in one go: others have their turn in between. */
const SLICE = 256;
/** GUIDs of the kernel hashes table, mixed-endian as in memory. */
const HASHES_TABLE = guid('9438d606-4f22-4cc9-b479-a793d411fd21');
const HASHES_CMDLINE = guid('97d02dd8-bd20-4c94-aa78-e7714d36ab2a');
const HASHES_INITRD = guid('44baf731-3a2f-4bd7-9af1-41e29169781d');
const HASHES_KERNEL = guid('4de79437-abd2-427f-b835-d5b172d2045b');

/** How a guest was launched, besides its image. */
export interface SnpLaunch {
  readonly vcpus: number;
  readonly vcpuType: string;
  readonly guestFeatures: bigint;
}

/**
 * MEASUREMENT of a guest of this image, launched so (docs/protocol/images.md section 5.4; AMD 56860 section 8.17).
 * @returns 48 bytes
 * @throws AttestationError `image`
 */
export async function snpLaunchDigest(
  document: SnpMeasurementDocument,
  launch: SnpLaunch,
  crypto: Pick<CryptoBackend, 'hash'>,
): Promise<Uint8Array> {
  if (!Number.isInteger(launch.vcpus) || launch.vcpus < 1 || launch.vcpus > MAX_VCPUS) {
    throw new AttestationError('image', 'vcpus is out of range', {
      expected: `1 to ${MAX_VCPUS}`,
      found: String(launch.vcpus),
    });
  }
  const page = (eip: number): Uint8Array =>
    crypto.hash('sha384', vmsaPage(eip, launch.vcpuType, launch.guestFeatures));
  // What may be refused is looked at before much is hashed.
  const [first, others] = [page(RESET_VECTOR), page(document.resetEip)];
  const digest = new LaunchDigest(document.ovmfHash, crypto);
  for (const section of document.sections) await addSection(digest, section, document, crypto);
  await digest.add(PAGE_TYPE.vmsa, VMSA_GPA, first);
  for (let i = 1; i < launch.vcpus; i++) await digest.add(PAGE_TYPE.vmsa, VMSA_GPA, others);
  return digest.value;
}

/** The running digest: LD = SHA-384 of a PAGE_INFO of 112 bytes that holds the LD before. */
class LaunchDigest {
  readonly #crypto: Pick<CryptoBackend, 'hash'>;
  readonly #info = new Uint8Array(112);
  readonly #view = new DataView(this.#info.buffer);
  #added = 0;

  constructor(start: Uint8Array, crypto: Pick<CryptoBackend, 'hash'>) {
    this.#crypto = crypto;
    this.#info.set(start);
    this.#view.setUint16(96, 112, true);
  }

  get value(): Uint8Array {
    return this.#info.slice(0, 48);
  }

  /** What it gives is waited for only where a slice ends. */
  add(pageType: number, gpa: bigint, contents: Uint8Array): Promise<void> | undefined {
    this.#info.set(contents, 48);
    this.#info[98] = pageType;
    this.#view.setBigUint64(104, gpa, true);
    this.#info.set(this.#crypto.hash('sha384', this.#info));
    if (++this.#added % SLICE !== 0) return undefined;
    return new Promise((resolve) => setTimeout(resolve, 0));
  }
}

const NO_CONTENTS = new Uint8Array(48);

async function addSection(
  digest: LaunchDigest,
  section: SnpSection,
  document: SnpMeasurementDocument,
  crypto: Pick<CryptoBackend, 'hash'>,
): Promise<void> {
  const gpa = BigInt(section.gpa);
  switch (section.type) {
    case SECTION.memory:
    case SECTION.svsmCaa:
      for (let offset = 0; offset < section.size; offset += PAGE) {
        await digest.add(PAGE_TYPE.zero, gpa + BigInt(offset), NO_CONTENTS);
      }
      return;
    case SECTION.secrets:
      await digest.add(PAGE_TYPE.secrets, gpa, NO_CONTENTS);
      return;
    case SECTION.cpuid:
      await digest.add(PAGE_TYPE.cpuid, gpa, NO_CONTENTS);
      return;
    case SECTION.kernelHashes:
      await digest.add(PAGE_TYPE.normal, gpa, crypto.hash('sha384', hashesPage(document, crypto)));
      return;
    default:
      throw new AttestationError('image', `OVMF section of unknown type ${section.type}`);
  }
}

/** The page with the hashes of command line, initrd and kernel, as QEMU writes it with `kernel-hashes=on`. */
function hashesPage(document: SnpMeasurementDocument, crypto: Pick<CryptoBackend, 'hash'>): Uint8Array {
  const entry = (id: Uint8Array, hash: Uint8Array): Uint8Array => concatBytes(id, Uint8Array.of(50, 0), hash);
  const commandLine = crypto.hash('sha256', utf8(`${document.commandLine.trim()}\0`));
  const table = concatBytes(
    HASHES_TABLE,
    Uint8Array.of(168, 0),
    entry(HASHES_CMDLINE, commandLine),
    entry(HASHES_INITRD, document.initrdHash),
    entry(HASHES_KERNEL, document.kernelHash),
  );
  const page = new Uint8Array(PAGE);
  const offset = document.hashesTableGpa & (PAGE - 1);
  if (offset + table.length > PAGE) {
    throw new AttestationError('image', 'The kernel hashes table does not fit its page');
  }
  page.set(table, offset);
  return page;
}

/** GUID text to its mixed-endian bytes (RFC 9562 appendix, UEFI 2.10 appendix A). */
function guid(text: string): Uint8Array {
  const bytes = fromHex(text.replaceAll('-', ''));
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
  return Uint8Array.from(order, (index) => bytes[index]!);
}
