import { createHash } from 'node:crypto';
import { replayDigests } from '@dstack-cloud/attestation';
import { concatBytes, fromBase64, toBase64, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { forgeTable, type Row } from './forge-table.ts';
import { sealTdx, setTd, setTdBit, type TdxDraft, tdxDraft } from './tdx-forge.ts';

type TdxRow = Row<TdxDraft>;

/** Another measurement document, with all hashes to fit. */
function setDocument(
  d: TdxDraft,
  change: (document: Uint8Array) => Uint8Array,
  listed: (line: string) => string = (line) => line,
): void {
  const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  const { tdx_measurement: material } = d.config;
  const document = change(fromBase64(material.measurement));
  const checksums = utf8(listed(`${hash(document)}  measurement.tdx.cbor\n`));
  d.config.tdx_measurement = { measurement: toBase64(document), checksum_file: toBase64(checksums) };
  d.config.os_image_hash = hash(checksums);
}
const HASH_LINE = `${'11'.repeat(32)}  measurement.tdx.cbor\n`;
const IMAGE: readonly TdxRow[] = [
  ['checksum file with the document alone', (d) => setDocument(d, (x) => x), 'good UpToDate'],
  [
    'checksum file with a star',
    (d) =>
      setDocument(
        d,
        (x) => x,
        (l) => l.replace('  ', ' *'),
      ),
    'good UpToDate',
  ],
  [
    'checksum file lists it twice',
    (d) =>
      setDocument(
        d,
        (x) => x,
        (l) => l + l,
      ),
    'image image.tdx',
  ],
  [
    'checksum file lists it twice, once wrongly',
    (d) =>
      setDocument(
        d,
        (x) => x,
        (l) => HASH_LINE + l,
      ),
    'image image.tdx',
  ],
  [
    'checksum file lists another hash',
    (d) =>
      setDocument(
        d,
        (x) => x,
        () => HASH_LINE,
      ),
    'image image.tdx',
  ],
  [
    'checksum file lists another name',
    (d) =>
      setDocument(
        d,
        (x) => x,
        (l) => l.replace('tdx', 'snp'),
      ),
    'image image.tdx',
  ],
  [
    'checksum file empty',
    (d) =>
      setDocument(
        d,
        (x) => x,
        () => '',
      ),
    'image image.tdx',
  ],
  [
    'document with a byte more',
    (d) => setDocument(d, (x) => concatBytes(x, Uint8Array.of(0))),
    'malformed image.tdx',
  ],
  [
    'document of version 4',
    (d) =>
      setDocument(d, (x) => {
        const at = toHex(x).indexOf(toHex(utf8('version'))) / 2;
        x[at + 7] = 4;
        return x;
      }),
    'unsupported image.tdx',
  ],
  [
    'document with another command line',
    (d) =>
      setDocument(d, (x) => {
        const at = toHex(x).indexOf(toHex(utf8('cmdline_sha384'))) / 2;
        x[at + 16]! ^= 1;
        return x;
      }),
    'image image.tdx',
  ],
  [
    'document with another initrd',
    (d) =>
      setDocument(d, (x) => {
        const at = toHex(x).indexOf(toHex(utf8('initrd_sha384'))) / 2;
        x[at + 15]! ^= 1;
        return x;
      }),
    'image image.tdx',
  ],
  [
    'os_image_hash of the document itself',
    (d) => {
      d.config.os_image_hash = createHash('sha256')
        .update(fromBase64(d.config.tdx_measurement.measurement))
        .digest('hex');
    },
    'image image.tdx',
  ],
  [
    'os_image_hash missing',
    (d) => {
      delete d.config.os_image_hash;
    },
    'image image.tdx',
  ],
  [
    'os_image_hash of 31 bytes',
    (d) => {
      d.config.os_image_hash = '11'.repeat(31);
    },
    'malformed image.tdx',
  ],
  [
    'document missing',
    (d) => {
      delete d.config.tdx_measurement;
    },
    'image image.tdx',
  ],
  [
    'variant missing',
    (d) => {
      delete d.config.tdx_attestation_variant;
    },
    'image image.tdx',
  ],
  [
    'variant legacy',
    (d) => {
      d.config.tdx_attestation_variant = 'legacy';
    },
    'image image.tdx',
  ],
  [
    'ovmf_variant of another generation',
    (d) => {
      d.config.ovmf_variant = 'stable202505';
    },
    'image image.tdx',
  ],
  [
    'ovmf_variant not given',
    (d) => {
      delete d.config.ovmf_variant;
    },
    'good UpToDate',
  ],
  [
    'memory size 2 GiB less a page',
    (d) => {
      d.config.memory_size -= 4096;
    },
    'image image.tdx',
  ],
  [
    'memory size missing',
    (d) => {
      delete d.config.memory_size;
    },
    'image image.tdx',
  ],
  [
    'two-pass where one was measured',
    (d) => {
      d.config.qemu_version = '9.1.0';
    },
    'image image.tdx',
  ],
  ['MRTD last byte', (d) => setTdBit(d, 'mrTd', 383, false), 'image image.tdx'],
  ['RTMR0 of another boot', (d) => setTd(d, 'rtmr0', Uint8Array.of(1)), 'mismatch tdx.rtmr0'],
  ['RTMR1 of another boot', (d) => setTd(d, 'rtmr1', Uint8Array.of(1)), 'mismatch tdx.rtmr1'],
  ['RTMR2 of another boot', (d) => setTd(d, 'rtmr2', Uint8Array.of(1)), 'mismatch tdx.rtmr2'],
  [
    'RTMR2 of another command line, log to fit',
    (d) => {
      const digest = new Uint8Array(48).fill(9);
      const at = d.eventLog.findIndex(({ imr }) => imr === 2);
      d.eventLog[at] = { ...d.eventLog[at]!, digest };
      setTd(
        d,
        'rtmr2',
        replayDigests(
          d.eventLog.filter(({ imr }) => imr === 2).map((e) => e.digest),
          'sha384',
        ),
      );
    },
    'image image.tdx',
  ],
  [
    'ACPI event missing',
    (d) => {
      d.eventLog = d.eventLog.filter((e) => e.event !== 'acpi-rsdp');
    },
    'mismatch tdx.rtmr0',
  ],
  [
    'stripped log without an ACPI event',
    (d) => {
      d.eventLog = d.eventLog.filter(
        (e) => e.imr === 3 || (e.event.startsWith('acpi') && e.event !== 'acpi-rsdp'),
      );
    },
    'event-log image.tdx',
  ],
  [
    'stripped log with an ACPI event twice',
    (d) => {
      d.eventLog = d.eventLog.filter((e) => e.imr === 3 || e.event.startsWith('acpi'));
      d.eventLog.push(d.eventLog.find((e) => e.event === 'acpi-rsdp')!);
    },
    'event-log image.tdx',
  ],
  [
    'stripped log with names exchanged',
    (d) => {
      const other: Record<string, string> = { 'acpi-rsdp': 'acpi-tables', 'acpi-tables': 'acpi-rsdp' };
      d.eventLog = d.eventLog
        .filter((e) => e.imr === 3 || e.event.startsWith('acpi'))
        .map((e) => ({ ...e, event: other[e.event] ?? e.event }));
    },
    'image image.tdx',
  ],
  [
    'config is no JSON',
    (d) => {
      d.config = 'x';
    },
    'malformed image.tdx',
  ],
  [
    'config is a list',
    (d) => {
      d.config = '[]';
    },
    'malformed image.tdx',
  ],
  [
    'config within a sys-config',
    (d) => {
      d.config = JSON.stringify({ kms_urls: [], vm_config: JSON.stringify(d.config) });
    },
    'good UpToDate',
  ],
  [
    'config within a sys-config, empty',
    (d) => {
      d.config = JSON.stringify({ ...d.config, vm_config: '' });
    },
    'image image.tdx',
  ],
];

describeWithFixtures('forged images of TDX evidence', 'mock-evidence/expected.json', () => {
  for (const rows of [IMAGE]) forgeTable(tdxDraft, sealTdx, rows);
});
