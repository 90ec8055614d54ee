import { fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import type { Attestation, RuntimeEvent } from '../attestation.ts';
import { attestedConfig } from '../codec/attested-config.ts';
import { decodeAttestation } from '../codec/decode-attestation.ts';
import { attestationFromQuote } from '../codec/legacy.ts';
import { AttestationError } from '../errors.ts';
import type { GcpTdxEvidence, NitroEvidence, PlatformEvidence } from '../platform-evidence.ts';
import type { TdxEvidence } from '../tdx-evidence.ts';
import { parseTdxQuote } from '../tdx-quote/quote.ts';
import type { VerifiedAttestation } from '../verify-context.ts';
import { readBootEvents } from './boot-events.ts';
import { bootInfo } from './boot-info.ts';

/** As if verified: measurements are derived from it here, never judged. */
function verified(
  attestation: Attestation,
  evidence: PlatformEvidence,
  rawDeviceId: string,
): VerifiedAttestation {
  return {
    mode: attestation.quote.mode,
    attestation,
    runtimeEvents: attestation.runtimeEvents,
    config: attestedConfig(attestation.config),
    checks: [],
    simulated: false,
    reportData: attestation.reportData,
    tcbStatus: 'UpToDate',
    advisoryIds: [],
    rawDeviceId: fromHex(rawDeviceId),
    registers: {},
    validFrom: 0,
    validUntil: 1,
    evidence,
  };
}

function tdxEvidence(quote: Uint8Array): TdxEvidence {
  const { td } = parseTdxQuote(quote);
  return { kind: 'tdx', quoteVersion: 4, td: td!, dcap: undefined as never };
}

interface Derived {
  mr_system: string;
  mr_system_boottime: string;
  mr_aggregated: string;
  mr_aggregated_boottime: string;
  device_id?: string;
}

function expectDerived(info: VerifiedAttestation, expected: Derived, vmConfig = ''): void {
  const now = bootInfo(info, { bootTime: false, vmConfig });
  const boot = bootInfo(info, { bootTime: true, vmConfig });
  expect(toHex(now.mrSystem)).toBe(expected.mr_system);
  expect(toHex(now.mrAggregated)).toBe(expected.mr_aggregated);
  expect(toHex(boot.mrSystem)).toBe(expected.mr_system_boottime);
  expect(toHex(boot.mrAggregated)).toBe(expected.mr_aggregated_boottime);
  expect(boot.keyProviderInfo).toHaveLength(0);
  if (expected.device_id) expect(toHex(now.deviceId)).toBe(expected.device_id);
}

describeWithFixtures('derived measurements of real evidence', 'attestation/expected.json', () => {
  const { files } = fixtureJson<{
    files: Record<string, { derived: Derived; checks?: { pck: { ppid: string } }; vm_config?: string }>;
  }>('attestation/expected.json');

  it('dstack-tdx with MRCONFIGID', () => {
    const path = 'dstack/attestation-v0-dstack-tdx.bin';
    const attestation = decodeAttestation(fixture(`attestation/${path}`));
    if (attestation.quote.mode !== 'dstack-tdx') throw new Error('mode');
    const info = verified(
      attestation,
      tdxEvidence(attestation.quote.quote),
      '80d4a149124353c7a2bb76551603f31b',
    );
    expectDerived(info, files[path]!.derived);
    const boot = bootInfo(info, { bootTime: false });
    expect(toHex(boot.appId)).toBe('5bb4ff9a3837357f19dc176407a5709c62eb6c56');
    expect(toHex(boot.osImageHash)).toBe('e61be43dd1cc6a6f5edefd7c51b608983780839b0000ce60dd99737dcffe09b9');
  });

  it.each(['dstack/quote-report.json', 'dstack/tdx-lite-getquote.json'])('%s', (path) => {
    const file = fixtureJson<{ quote: string; event_log: unknown }>(`attestation/${path}`);
    const log = typeof file.event_log === 'string' ? file.event_log : JSON.stringify(file.event_log);
    const attestation = attestationFromQuote(fromHex(file.quote), log);
    const expected = files[path]!;
    const evidence = tdxEvidence(fromHex(file.quote));
    expectDerived(verified(attestation, evidence, expected.checks!.pck.ppid), expected.derived);
  });

  it('GCP, synthetic', () => {
    const path = 'synthetic/gcp-tdx-attestation-v0.bin';
    const attestation = decodeAttestation(fixture(`attestation/${path}`));
    if (attestation.quote.mode !== 'dstack-gcp-tdx') throw new Error('mode');
    const { quote, tpmQuote } = attestation.quote;
    const evidence: GcpTdxEvidence = {
      kind: 'gcp-tdx',
      tdx: tdxEvidence(quote),
      pcrs: new Map(tpmQuote.pcrValues.map((pcr) => [pcr.index, pcr.value])),
      ukiDigest: new Uint8Array(32),
    };
    expectDerived(verified(attestation, evidence, ''), files[path]!.derived);
  });

  it('Nitro', () => {
    const attestation = decodeAttestation(fixture('attestation/dstack/nitro-attestation-v0.bin'));
    const expected = '1894b0b29e94a9db16e88a2914f0923e52bb16c08bf3bb484df786a147e2eb79';
    const pcrs = [
      'eb7d0dab08ff41546d7e5659aee883af7b32bb2e58e46815b719f9f7bfae7b880188a10d86317e6509923740526cf74a',
      '0343b056cd8485ca7890ddd833476d78460aed2aa161548e4e26bedf321726696257d623e8805f3f605946b3d8b0c6aa',
      'd7b0a76788c1be24898bd148117ea1239578ba0e72f5d87a33a6c6476026675b6f996940f062e0e3f0b5edd2ddf78811',
    ];
    const evidence: NitroEvidence = {
      kind: 'nitro',
      moduleId: 'i-0827e799ec9232d44-enc019b5640fdf630d6',
      timestamp: 1766678659346,
      pcrs: new Map(pcrs.map((hex, i) => [i, fromHex(hex)])),
      debug: false,
    };
    const info = bootInfo(verified(attestation, evidence, toHex(Uint8Array.of(0x69))), { bootTime: false });
    for (const value of [info.osImageHash, info.composeHash, info.mrSystem, info.mrAggregated]) {
      expect(toHex(value)).toBe(expected);
    }
    expect(toHex(info.deviceId)).toBe('de7d1b721a1e0632b7cf04edf5032c8ecffa9f9a08492152b926f1a5a7e765d7');
    expect(toHex(info.hostId!)).toBe('26dd8ae9a73953f3826bf470fc2dd1f8feebe5c0dd32d6e26b2f9fee05e86b73');
  });
});

describe('boot events', () => {
  const event = (name: string, payload = ''): RuntimeEvent => ({ event: name, payload: fromHex(payload) });
  const good = [
    event('system-preparing'),
    event('app-id', '11'.repeat(20)),
    event('compose-hash', '33'.repeat(32)),
    event('instance-id'),
    event('boot-mr-done'),
    event('system-ready'),
  ];

  it('reads the values of the system', () => {
    expect(toHex(readBootEvents([...good, event('app-id', '22'.repeat(20))]).appId)).toBe('11'.repeat(20));
    expect(readBootEvents(good.slice(0, 5)).instanceId).toHaveLength(0);
  });

  it.each([
    ['nothing', []],
    ['no app-id', good.filter((item) => item.event !== 'app-id')],
    ['no compose-hash', good.filter((item) => item.event !== 'compose-hash')],
    ['no boot-mr-done', good.filter((item) => item.event !== 'boot-mr-done')],
    ['two app-ids', [...good.slice(0, 2), event('app-id', '22'.repeat(20)), ...good.slice(2)]],
    ['a second app-id after the boot', [...good.slice(0, 5), event('app-id', '22'.repeat(20)), good[5]!]],
    [
      'a short app-id',
      good.map((item) => (item.event === 'app-id' ? event('app-id', '11'.repeat(19)) : item)),
    ],
    ['an event of an application before boot-mr-done', [good[0]!, event('evil'), ...good.slice(1)]],
    ['ready before anything was measured', [event('system-ready'), ...good]],
    ['another order', [good[1]!, good[0]!, ...good.slice(2)]],
    [
      'a second key-provider',
      [...good.slice(0, 5), event('key-provider', '01'), event('key-provider', '02')],
    ],
  ])('refuses %s', (_name, events) => {
    expect(() => readBootEvents(events)).toThrow(AttestationError);
  });
});
