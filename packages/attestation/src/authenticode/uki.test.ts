import { concatBytes, equalBytes, fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureText } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { defaultCrypto } from '#crypto';
import { AttestationError } from '../errors.ts';
import { parseBootLog } from '../events/boot-log.ts';
import { replayDigests } from '../events/replay.ts';
import { authenticodeDigest } from './authenticode.ts';
import { loadOptions, predictUki, readUki } from './uki.ts';

const sha256 = (...parts: Uint8Array[]): Uint8Array => defaultCrypto.hash('sha256', ...parts);
const COMMAND_LINE = 'console=ttyS0 quiet panic=-1 dstack.test=1';
const GPT = new Uint8Array(32).fill(9);

/** A PE32+ file with the given sections, contiguous and aligned to 512 bytes. */
function pe(sections: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const entries = Object.entries(sections);
  const headers = Math.ceil((0x188 + 40 * entries.length) / 512) * 512;
  const header = new Uint8Array(headers);
  const view = new DataView(header.buffer);
  header.set(utf8('MZ'));
  view.setUint32(0x3c, 0x80, true);
  header.set(utf8('PE'), 0x80);
  view.setUint16(0x86, entries.length, true);
  view.setUint16(0x94, 240, true);
  view.setUint16(0x98, 0x20b, true);
  view.setUint32(0x98 + 60, headers, true);
  view.setUint32(0x98 + 108, 16, true);
  const parts: Uint8Array[] = [header];
  let offset = headers;
  for (const [i, [name, content]] of entries.entries()) {
    const at = 0x188 + 40 * i;
    const size = Math.ceil(content.length / 512) * 512;
    header.set(utf8(name), at);
    const fields = [content.length, 0x1000 * (i + 1), size, offset];
    for (const [j, value] of fields.entries()) view.setUint32(at + 8 + 4 * j, value, true);
    parts.push(content, new Uint8Array(size - content.length));
    offset += size;
  }
  return concatBytes(...parts);
}

describe('UKI', () => {
  const kernel = pe({ '.text': utf8('kernel code') });
  const uki = pe({
    '.text': utf8('stub code'),
    '.osrel': utf8('ID=test\n'),
    '.cmdline': utf8(COMMAND_LINE),
    '.initrd': utf8('ramdisk'),
    '.linux': kernel,
  });

  it('reads sections at their size in memory', () => {
    const read = readUki(uki);
    expect(read.kernel).toEqual(kernel);
    expect(new TextDecoder().decode(read.commandLine)).toBe(COMMAND_LINE);
    expect(new TextDecoder().decode(read.initrd)).toBe('ramdisk');
  });

  it('predicts what the boot measures', () => {
    const measured = predictUki(readUki(uki), { gptDigest: GPT }, defaultCrypto);
    expect(measured.uki).toEqual(authenticodeDigest(uki, 'sha256', defaultCrypto).digest);
    expect(measured.kernel).toEqual(authenticodeDigest(kernel, 'sha256', defaultCrypto).digest);
    expect(measured.gcePcr2).toEqual([sha256(new Uint8Array(4)), GPT, measured.uki, measured.kernel]);
    expect(measured.pcr4.slice(2)).toEqual([measured.uki, measured.kernel]);
    expect(measured.pcr9).toEqual([sha256(loadOptions(utf8(COMMAND_LINE))), sha256(utf8('ramdisk'))]);
    expect(measured.pcr11).toEqual([
      sha256(utf8('.linux\0')),
      sha256(kernel),
      sha256(utf8('.osrel\0')),
      sha256(utf8('ID=test\n')),
      sha256(utf8('.cmdline\0')),
      sha256(utf8(COMMAND_LINE)),
      sha256(utf8('.initrd\0')),
      sha256(utf8('ramdisk')),
    ]);
  });

  it('refuses images that name a section twice or have no kernel', () => {
    const twice = pe({ '.text': utf8('x'), '.linux': kernel });
    twice.set(utf8('.linux'), 0x188);
    expect(() => readUki(twice)).toThrow(AttestationError);
    expect(() => readUki(pe({ '.text': utf8('x') }))).toThrow(AttestationError);
  });
});

describeWithFixtures('measured boot of a UKI', 'measured-boot/eventlog.bin', () => {
  const log = parseBootLog(fixture('measured-boot/eventlog.bin'));
  const pcrs = new Map(
    [...fixtureText('measured-boot/pcrs-sha256.txt').matchAll(/(\d+)\D+([0-9A-Fa-f]{64})/g)].map(
      ([, index, value]) => [Number(index), value!.toLowerCase()],
    ),
  );
  const digests = (index: number): Uint8Array[] =>
    log.events
      .filter((event) => event.index === index && event.type !== 3)
      .map((e) => e.digests.get('sha256')!);
  const uki = fromHex('bc2e6d77f12dfa13509e09a200a295fc93031de51128d38da1a9569cba0dbb75');
  const kernelPe = fromHex('5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31');

  it('replays to every PCR that the firmware measured', () => {
    for (const index of [0, 1, 2, 3, 4, 5, 6, 7, 9, 11]) {
      expect([index, toHex(replayDigests(digests(index), 'sha256'))]).toEqual([index, pcrs.get(index)]);
    }
  });

  it('has the sequence in PCR 4 that is predicted from UKI and kernel', () => {
    const predicted = [
      sha256(utf8('Calling EFI Application from Boot Option')),
      sha256(new Uint8Array(4)),
      uki,
      kernelPe,
    ];
    expect(digests(4).map(toHex)).toEqual(predicted.map(toHex));
  });

  it('has the command line in PCR 9 as load options', () => {
    expect(digests(9).map(toHex)).toContain(toHex(sha256(loadOptions(utf8(COMMAND_LINE)))));
  });

  it('has in PCR 11 name and content of each section that systemd 252 measures', () => {
    const found = digests(11);
    const names = ['.linux', '.osrel', '.cmdline', '.initrd'];
    expect(found.length).toBe(2 * names.length);
    for (const [i, name] of names.entries())
      expect(toHex(found[2 * i]!)).toBe(toHex(sha256(utf8(`${name}\0`))));
    expect(toHex(found[1]!)).toBe('51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275');
    expect(equalBytes(found[5]!, sha256(utf8(COMMAND_LINE)))).toBe(true);
    expect(toHex(found[7]!)).toBe('25fa5b02eb749460e1f23868d86342615e18a4e6180cd95a7268f3cb57d803c9');
  });
});
