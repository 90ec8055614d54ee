/** Which collateral the original fetched for each call; ours never more, and nothing twice. */
import { pcsCollateral } from '@dstack-cloud/attestation';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call } from '../test/ask.ts';
import { fullClients, fullEvidence, fullItems, servedCollateral } from '../test/recorded-full.ts';
import { type RecordedKms, startRecordedKms } from '../test/recorded-kms.ts';
import { exchanges, observations } from '../test/replay-plan.ts';

describeWithFixtures('replay of collateral requests', 'kms-original/full/collateral-requests.json', () => {
  const evidence = fullEvidence();
  const app1 = fullClients(evidence)['app1']!;
  const fetched: string[] = [];
  let kms: RecordedKms;
  beforeAll(async () => {
    const served = servedCollateral(evidence);
    const pcs = pcsCollateral({
      baseUrl: 'http://collateral.invalid',
      now: () => evidence.now,
      fetch: (input, init) => {
        const { pathname, search } = new URL(String(input));
        fetched.push(`GET ${pathname}${search}`);
        return served(input, init);
      },
    });
    kms = await startRecordedKms({
      trustOf: (trust) => ({
        ...trust,
        collateral: {
          ...pcs,
          tdx: (request) => (request.fmspc === '000000000000' ? pcs : trust.collateral).tdx(request),
          settled: (answer, isGood) => pcs.settled!(answer, isGood),
        },
      }),
    });
  });
  afterAll(() => kms.close());

  const recorded = (id: string): string[] =>
    (observations('collateral-requests').find((item) => item.id === id) as unknown as { requests: string[] })
      .requests;
  /** What was fetched during the call. */
  async function during(run: () => Promise<{ status: number }>): Promise<string[]> {
    fetched.length = 0;
    expect((await run()).status).toBe(200);
    return [...fetched].sort();
  }
  const getAppKey = () => call(kms.running.main.port, 'GetAppKey', { api_version: 1 }, { client: app1 });
  const target = (request: string): string => request.split('?')[0]!;

  test('collateral-requests/GetMeta without certificate', async () => {
    const found = await during(() => call(kms.running.main.port, 'GetMeta'));
    expect(found).toEqual(recorded('GetMeta without certificate'));
  });

  test('collateral-requests/GetTempCaCert (first self check), collateral-requests/GetTempCaCert (self attestation cached)', async () => {
    // Our own evidence is of another platform here, so nothing of it is fetched at this address.
    for (let i = 0; i < 2; i++) {
      expect(await during(() => call(kms.running.main.port, 'GetTempCaCert'))).toEqual(
        recorded('GetTempCaCert (self attestation cached)'),
      );
    }
    expect(recorded('GetTempCaCert (first self check)')).toHaveLength(4);
  });

  test('collateral-requests/GetAppKey 1 on one mTLS connection: the same four, once', async () => {
    const found = await during(getAppKey);
    const theirs = recorded('GetAppKey 1 on one mTLS connection');
    expect(found.map(target)).toEqual(theirs.map(target).sort());
    expect(found.join(' ')).toContain('fmspc=000000000000');
  });

  test('collateral-requests/GetAppKey 2 on the same connection, collateral-requests/GetMeta on the attested connection, collateral-requests/SignCert: four each there, none here', async () => {
    for (const id of [
      'GetAppKey 2 on the same connection',
      'GetMeta on the attested connection',
      'SignCert',
    ]) {
      expect(recorded(id)).toHaveLength(4);
    }
    expect(await during(getAppKey)).toEqual([]);
    expect(await during(() => call(kms.running.main.port, 'GetMeta', {}, { client: app1 }))).toEqual([]);
    const { request } = fullItems('signcert').find(({ id }) => id === 'v2-server')!;
    const input = JSON.parse(request!.body!.utf8!) as unknown;
    expect(await during(() => call(kms.running.main.port, 'SignCert', input))).toEqual([]);
    expect(exchanges('collateral-requests')).toEqual([]);
  });
});
