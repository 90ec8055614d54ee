import type { BootInfo } from '@dstack-cloud/attestation';
import { fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { expect, test } from 'vitest';
import { facts } from '../test/facts.ts';
import { webhookBody } from './webhook-body.ts';

test('both generations find their name, and Nitro its host', () => {
  const body = webhookBody(facts({ hostId: new Uint8Array([1, 2]) }));
  expect(Object.keys(JSON.parse(body) as object)).toEqual([
    'attestationMode',
    'teeVariant',
    'mrAggregated',
    'osImageHash',
    'mrSystem',
    'appId',
    'composeHash',
    'instanceId',
    'deviceId',
    'keyProviderInfo',
    'tcbStatus',
    'advisoryIds',
    'hostId',
  ]);
  expect(JSON.parse(body)).toMatchObject({
    attestationMode: 'dstack-tdx',
    teeVariant: 'dstack-tdx',
    hostId: '0102',
  });
});

describeWithFixtures('bodies recorded from the original', 'kms-original/transcript.json', () => {
  type Recorded = { cases: { name: string; webhook?: { method: string; body: string }[] }[] };
  const bodies = new Set(
    fixtureJson<Recorded>('kms-original/transcript.json').cases.flatMap(({ webhook = [] }) =>
      webhook.filter(({ method }) => method === 'POST').map(({ body }) => body),
    ),
  );
  test('there are some', () => expect(bodies.size).toBeGreaterThan(1));

  test.each([...bodies])('%s', (body) => {
    const recorded = JSON.parse(body) as Record<string, string> & { advisoryIds: string[] };
    const bytes = (key: string): Uint8Array => fromHex(recorded[key] ?? '');
    const info: BootInfo = {
      mode: recorded['teeVariant'] ?? '',
      appId: bytes('appId'),
      composeHash: bytes('composeHash'),
      instanceId: bytes('instanceId'),
      deviceId: bytes('deviceId'),
      mrAggregated: bytes('mrAggregated'),
      mrSystem: bytes('mrSystem'),
      osImageHash: bytes('osImageHash'),
      keyProviderInfo: bytes('keyProviderInfo'),
      tcbStatus: recorded['tcbStatus'] ?? '',
      advisoryIds: recorded.advisoryIds,
    };
    // The wanted difference: ours also says attestationMode, for auth APIs of the 0.6 line.
    const ours = webhookBody(info).replace(`"attestationMode":"${info.mode}",`, '');
    expect(ours).toBe(body);
  });
});
