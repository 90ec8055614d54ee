/** What every policy source does, whatever stands behind it. */

import type { BootInfo } from '@dstack-cloud/attestation';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BootKind, Decision } from './policy.ts';
import { filled } from './test/facts.ts';
import { type World, worlds } from './test/sources.ts';

describe.each(Object.entries(worlds))('%s', (_, start) => {
  let world: World;
  beforeAll(async () => {
    world = await start();
  });
  afterAll(() => world?.close());

  const ask = (kind: BootKind, changes: Partial<BootInfo> = {}): Promise<Decision> =>
    world.policy.authorize(kind, { ...world.allowed, ...changes });

  test.each(['app', 'kms'] as const)('allows the %s that is registered', async (kind) => {
    expect(await ask(kind)).toMatchObject({ allowed: true, reason: '', gatewayAppId: 'gateway' });
  });

  test.each<[BootKind, Partial<BootInfo>, RegExp]>([
    ['app', { appId: filled(20, 0xee) }, /^app not registered$/i],
    ['app', { osImageHash: filled(32, 0xee) }, /^OS image is not allowed$/],
    ['app', { composeHash: filled(32, 0xee) }, /^compose hash not allowed$/i],
    ['app', { deviceId: filled(32, 0xee) }, /device/i],
    ['kms', { tcbStatus: 'OutOfDate' }, /^TCB status is not/],
    ['kms', { osImageHash: filled(32, 0xee) }, /^OS image is not allowed$/],
    ['kms', { mrAggregated: filled(32, 0xee) }, /^aggregated MR not allowed$/i],
    ['kms', { deviceId: filled(32, 0xee) }, /^KMS is not allowed to boot on this device$/],
  ])('denies the %s with %o', async (kind, changes, reason) => {
    const decision = await ask(kind, changes);
    expect(decision).toMatchObject({ allowed: false, reason: expect.stringMatching(reason) });
    expect(decision.failure).toBeUndefined();
  });

  test('an app and a KMS are different questions', async () => {
    const changes = { mrAggregated: filled(32, 0xee) };
    expect((await ask('app', changes)).allowed).toBe(true);
    expect((await ask('kms', changes)).allowed).toBe(false);
  });

  test('instance id and mrSystem may be empty', async () => {
    expect((await ask('app', { instanceId: filled(0, 0), mrSystem: filled(0, 0) })).allowed).toBe(true);
  });

  test('wrong-length-measurement: short values are refused, not padded', async () => {
    for (const field of ['composeHash', 'osImageHash', 'deviceId', 'mrAggregated', 'appId'] as const) {
      const short = ask('app', { [field]: world.allowed[field].subarray(1) });
      await expect(short).rejects.toMatchObject({ code: 'invalid-request' });
    }
  });

  test('revoked-between-requests: the next request knows, and knows again after restoring', async () => {
    for (let round = 0; round < 3; round++) {
      expect((await ask('app')).allowed).toBe(true);
      await world.revoke();
      expect(await ask('app')).toMatchObject({
        allowed: false,
        reason: expect.stringMatching(/compose hash/i),
      });
      await world.restore();
    }
    expect((await ask('app')).allowed).toBe(true);
  });

  test('many at once get the same answer', async () => {
    const decisions = await Promise.all(Array.from({ length: 40 }, () => ask('app')));
    expect(new Set(decisions.map(({ allowed }) => allowed))).toEqual(new Set([true]));
  });

  test('describes its gateway', async () => {
    expect(await world.policy.describe()).toMatchObject({ gatewayAppId: 'gateway' });
  });

  test('allows nothing once it is broken', async () => {
    await world.breakDown();
    const decision = await ask('app').catch((error: unknown) => error);
    expect(decision).not.toMatchObject({ allowed: true });
    expect(decision).toSatisfy(
      (it: Decision & { code?: string }) => it.failure === 'unavailable' || it.code === 'backend-unreachable',
    );
  });
});
