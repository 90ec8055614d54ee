import { decodeCbor, fromBase64, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describe, expect, test } from 'vitest';
import { replay, sha256 } from './hash.ts';
import { bootEvents, simulatedBoot } from './simulated-image.ts';
import { encodeTdHobLayout, tdHobList } from './td-hob.ts';

describeWithFixtures('a real TDX-lite boot', 'attestation/dstack/tdx-lite-getquote.json', () => {
  interface Recorded {
    quote: string;
    event_log: string;
    vm_config: string;
  }
  const recorded = fixtureJson<Recorded>('attestation/dstack/tdx-lite-getquote.json');

  test('has the registers that the simulator computes from its measurement document', () => {
    const config = JSON.parse(recorded.vm_config) as {
      memory_size: number;
      tdx_measurement: { measurement: string };
    };
    const document = decodeCbor(fromBase64(config.tdx_measurement.measurement)) as Map<string, unknown>;
    const image = document.get('image') as Map<string, Uint8Array>;
    const log = JSON.parse(recorded.event_log) as { event: string; digest: string }[];
    const layout = {
      tdHob: 0x809000n,
      accepted: [
        { start: 0x800000n, length: 0x6000n },
        { start: 0x809000n, length: 0x2000n },
        { start: 0x80b000n, length: 0x2000n },
        { start: 0x810000n, length: 0x10000n },
      ],
    };
    const tdvf = document.get('tdvf') as Map<string, Uint8Array>;
    expect(encodeTdHobLayout(layout)).toEqual(tdvf.get('td_hob'));
    const events = bootEvents(
      {
        kernel: image.get('kernel_authenticode')!,
        commandLine: image.get('cmdline_sha384')!,
        initrd: image.get('initrd_sha384')!,
      },
      tdHobList(layout, BigInt(config.memory_size)),
      (table) => fromHex(log.find(({ event }) => event === `acpi-${table}`)!.digest),
    );
    const quoted = [0, 1, 2].map((i) => recorded.quote.slice(2 * (376 + 48 * i), 2 * (424 + 48 * i)));
    const computed = [0, 1, 2].map((rtmr) =>
      toHex(replay(events.filter((event) => event.rtmr === rtmr).map(({ digest }) => digest))),
    );
    expect(computed).toEqual(quoted);
  });
});

describe('simulatedBoot', () => {
  test('depends on image, processors and memory, and on nothing else', () => {
    const one = simulatedBoot({ image: 'dstack-sim-1' });
    expect(simulatedBoot({ image: 'dstack-sim-1' })).toEqual(one);
    const other = simulatedBoot({ image: 'dstack-sim-2' });
    expect(other.mrTd).not.toEqual(one.mrTd);
    expect(other.rtmrs[1]).not.toEqual(one.rtmrs[1]);
    const bigger = simulatedBoot({ image: 'dstack-sim-1', memorySize: 8 * 1024 ** 3, cpuCount: 4 });
    expect(bigger.mrTd).toEqual(one.mrTd);
    expect(bigger.rtmrs[0]).not.toEqual(one.rtmrs[0]);
    expect(bigger.rtmrs[1]).toEqual(one.rtmrs[1]);
  });

  test('ties os_image_hash to the measurement document by the checksum file', () => {
    const { vmConfig, osImageHash } = simulatedBoot({ image: 'x' });
    const { checksum_file, measurement } = vmConfig['tdx_measurement'] as Record<string, string>;
    expect(sha256(fromBase64(checksum_file!))).toEqual(osImageHash);
    const line = new TextDecoder().decode(fromBase64(checksum_file!));
    expect(line).toBe(`${toHex(sha256(fromBase64(measurement!)))}  measurement.tdx.cbor\n`);
  });

  test.each([{ memorySize: 1024 }, { memorySize: 2 ** 31 + 1 }, { cpuCount: 0 }, { cpuCount: 1.5 }])(
    'refuses %o',
    (machine) => {
      expect(() => simulatedBoot({ image: 'x', ...machine })).toThrow(/Memory|processors/);
    },
  );
});
