/** A change of root: who may make one, what it leaves, what the audit log says of it. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { decodeAttestation } from '@dstack-cloud/attestation';
import { AuditLog, auditKey, followHandovers, verifyLog } from '@dstack-cloud/audit-log';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { bootstrapReportData, k256PublicKey } from '@dstack-cloud/keys';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { recordHandovers } from '../audit/handovers.ts';
import { nodeFileSystem } from '../key-directory/file-system.ts';
import { loadKeys } from '../key-directory/load-keys.ts';
import type { RunningKms } from '../start-kms.ts';
import { call } from '../test/ask.ts';
import { LAB_NOW, type Lab, openLab } from '../test/lab.ts';
import { agentOf } from '../test/simulated-guest.ts';
import { type Rotated, rotateRoot } from './rotate-root.ts';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab();
});
beforeEach(() => {
  lab.webhook.policy = {};
});
afterAll(() => lab.close());

const start = (directory: string) =>
  lab.start({ directory, keys: false, core: { onboard: { auto_bootstrap_domain: 'localhost' } } });
/** As the command does, with the keeper of a KMS that is stopped. */
const rotate = ({ kms }: RunningKms, retire?: string, fs = nodeFileSystem): Promise<Rotated> =>
  rotateRoot(
    {
      config: kms.config,
      self: kms.self,
      now: kms.now,
      fs,
      agent: agentOf(lab.guest({ image: 'kms-test' })),
    },
    retire,
  );
type Head = Record<string, string> & { handovers?: Record<string, string>[] };
const headOf = async (kms: RunningKms) => (await call(kms.main.port, 'GetAuditHead')).json as unknown as Head;

describe('rotation of the root', () => {
  test('makes new keys with evidence over them; the log goes on, signed by the new key that the old root named', async () => {
    const directory = join(lab.directory, 'rotates');
    const first = await start(directory);
    const client = lab.client(lab.guest());
    const release = (kms: RunningKms) => call(kms.main.port, 'GetAppKey', { api_version: 1 }, { client });
    expect((await release(first)).status).toBe(200);
    const before = await headOf(first);
    expect(before.handovers).toBeUndefined();
    await first.close();

    const { keys, resumed } = await rotate(first);
    expect(resumed).toBe(false);
    const { bootstrapInfo } = keys;
    expect(decodeAttestation(bootstrapInfo!.attestation).reportData).toEqual(
      bootstrapReportData(keys.rootCa.key.spki, keys.k256Pubkey),
    );

    const second = await start(directory);
    expect(second.kms.keys.id).toBe(keys.id);
    expect(second.kms.keys.history.map(({ id }) => id)).toEqual([first.kms.keys.id]);
    expect((await release(second)).json['root_id']).toBe(keys.id);
    const after = await headOf(second);
    // The release before, the rotation, the release after.
    expect([Number(before['tree_size']), Number(after['tree_size'])]).toEqual([1, 3]);
    const handovers = after.handovers!.map((handover) => ({
      from: {
        caPubkey: fromHex(handover['old_ca_pubkey']!),
        k256Pubkey: fromHex(handover['old_k256_pubkey']!),
        auditPubkey: fromHex(handover['old_audit_pubkey']!),
      },
      to: {
        caPubkey: fromHex(handover['new_ca_pubkey']!),
        k256Pubkey: fromHex(handover['new_k256_pubkey']!),
        auditPubkey: fromHex(handover['new_audit_pubkey']!),
      },
      signature: fromHex(handover['signature']!),
    }));
    const [old, present] = [first, second].map(({ kms }) => toHex(kms.keys.k256Pubkey)) as [string, string];
    const [way] = followHandovers(handovers, old, present);
    expect(toHex(way!.from.auditPubkey)).toBe(before['public_key']);
    expect(toHex(way!.to.auditPubkey)).toBe(after['public_key']);
    const log = join(directory, 'audit');
    const signed = ({ tree_size: size, root_hash: root, timestamp, signature }: Head) => ({
      size,
      root,
      timestamp,
      signature,
    });
    const verified = await verifyLog(
      log,
      [fromHex(before['public_key']!), fromHex(after['public_key']!)],
      [signed(before), signed(after)],
    );
    expect(verified.records).toBe(3);
    // One of the two keys alone does not do.
    await expect(verifyLog(log, [fromHex(after['public_key']!)], [signed(before)])).rejects.toMatchObject({
      code: 'proof-invalid',
    });
    const record = JSON.parse((await second.kms.audit.records(1, 1))[0]!) as Record<string, string>;
    expect(record).toMatchObject({ event: 'root-rotation', old_root: old, new_root: present });
    expect(JSON.parse((await second.kms.audit.records(2, 1))[0]!)).toMatchObject({ key_root: keys.id });
    await second.close();

    // A third root, and the retired one is destroyed: the hand-overs stay.
    await rotate(second, keys.id);
    rmSync(join(directory, 'roots', first.kms.keys.id), { recursive: true });
    const third = await start(directory);
    expect((await headOf(third)).handovers).toHaveLength(2);
    expect(third.kms.keys.history.map(({ id }) => id)).toEqual([keys.id]);
    await third.close();
  });

  test('is refused by the policy, by a running KMS, and when another root is active; nothing changes', async () => {
    const directory = join(lab.directory, 'refused');
    const kms = await start(directory);
    // The command takes the lock; so does every KMS.
    await expect(start(directory)).rejects.toMatchObject({ code: 'keys-in-use' });
    await kms.close();
    const bytes = () => readFileSync(join(directory, 'root-k256.key'));
    const before = bytes();
    lab.webhook.policy = { kms: { body: { isAllowed: false, gatewayAppId: '', reason: 'not you' } } };
    await expect(rotate(kms)).rejects.toThrow('KMS is not allowed to rotate the root: boot denied: not you');
    lab.webhook.policy = { kms: { status: 500 } };
    await expect(rotate(kms)).rejects.toThrow('failed to call KMS auth check');
    lab.webhook.policy = {};
    await expect(rotate(kms, 'ab'.repeat(20))).rejects.toMatchObject({ code: 'keys-exist' });
    expect(bytes()).toEqual(before);
    const { keys } = await rotate(kms, kms.kms.keys.id);
    // Given again, as by a script that did not see the answer.
    await expect(rotate(kms, kms.kms.keys.id)).rejects.toMatchObject({ code: 'keys-exist' });
    expect((await loadKeys(directory, { now: LAB_NOW })).id).toBe(keys.id);
  });

  test('that was interrupted is finished by the same command, and not made twice', async () => {
    const directory = join(lab.directory, 'resumed');
    const kms = await start(directory);
    await kms.close();
    let renames = 0;
    const dies = {
      ...nodeFileSystem,
      rename: async (...args: Parameters<typeof nodeFileSystem.rename>) => {
        if (renames++ >= 2) throw new Error('killed');
        await nodeFileSystem.rename(...args);
      },
    };
    await expect(rotate(kms, undefined, dies)).rejects.toThrow('killed');
    // Whoever does not recover first is told.
    await expect(loadKeys(directory, { now: LAB_NOW })).rejects.toThrow(/damaged|rotat|without the other/);
    const { keys, resumed } = await rotate(kms);
    expect([resumed, keys.history.map(({ id }) => id)]).toEqual([true, [kms.kms.keys.id]]);
  });

  test('has one record, whenever the writer of the log is killed', async () => {
    const directory = join(lab.directory, 'recorded');
    const kms = await start(directory);
    await kms.close();
    const { keys } = await rotate(kms);
    const folder = join(directory, 'audit');
    const open = () =>
      AuditLog.open({ directory: folder, key: auditKey(keys.roots.k256), now: () => LAB_NOW * 1000 });
    let log = await open();
    await recordHandovers(log, folder, keys);
    await log.close();
    // As if it had been killed between the record and the file.
    rmSync(join(folder, 'handovers.json'));
    log = await open();
    const size = log.size;
    expect(await recordHandovers(log, folder, keys)).toHaveLength(1);
    expect(await recordHandovers(log, folder, keys)).toHaveLength(1);
    expect(log.size).toBe(size);
    await log.close();
    expect(toHex(k256PublicKey(auditKey(keys.roots.k256)))).toHaveLength(66);
  });
});
