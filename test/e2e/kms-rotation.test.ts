/** One application's keys are changed while it has data: nothing is lost, and the old keys end (docs/kms.md, "Rotate"). */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import { decryptEnv, encryptEnv } from '@dstack-cloud/keys';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { ALLOW } from '../harness/policy-webhook.ts';
import type { Workload } from '../harness/simulated-workload.ts';

type Keys = { disk_crypt_key: string; env_crypt_key: string; k256_key: string; key_epoch?: number };
type Answer = Keys & { previous_keys: Keys[] };

let lab: KmsLab;
let kms: KmsProcess;
beforeAll(async () => {
  lab = await startKmsLab();
  kms = await (await lab.host('rotating')).serve();
}, 120_000);
afterAll(async () => lab?.stop());

/** What the policy says of all applications from now on. */
function setEpoch(keyEpoch: number, minKeyEpoch: number): void {
  lab.webhook.app = () => ({ isAllowed: true, reason: '', gatewayAppId: 'any', keyEpoch, minKeyEpoch });
}

/** `held` is the epoch whose keys the machine has. */
async function ask(workload: Workload, held?: number) {
  const request = { api_version: 1, vm_config: '', ...(held === undefined ? {} : { key_epoch: held }) };
  return callKms(kms.url, 'GetAppKey', request, await lab.identity(kms, workload));
}

async function keysOf(workload: Workload, held?: number): Promise<Answer> {
  const answer = await ask(workload, held);
  expect(answer.status, answer.body).toBe(200);
  // Fields of ours are left out when they are empty, so that answers stay what old clients know.
  return { previous_keys: [], ...(JSON.parse(answer.body) as Keys) };
}

async function sealTo({ appId }: Workload, epoch: number, value: string): Promise<Uint8Array> {
  const body = { app_id: toHex(appId), key_epoch: epoch };
  const { public_key } = JSON.parse((await callKms(kms.url, 'GetAppEnvEncryptPubKey', body)).body);
  return encryptEnv([{ key: 'SECRET', value }], fromHex(public_key));
}
const open = ({ env_crypt_key: key }: Keys, sealed: Uint8Array) => utf8Text(decryptEnv(fromHex(key), sealed));

/** Stands for a disk: its content under the disk key. */
function writeDisk({ disk_crypt_key: key }: Keys, content: string): Buffer[] {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', fromHex(key), iv);
  return [iv, cipher.update(content, 'utf8'), cipher.final(), cipher.getAuthTag()];
}
function readDisk({ disk_crypt_key: key }: Keys, [iv, data, rest, tag]: Buffer[]): string {
  if (iv === undefined || data === undefined || rest === undefined || tag === undefined) return '';
  const decipher = createDecipheriv('aes-256-gcm', fromHex(key), iv);
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(Buffer.concat([data, rest])), decipher.final()]).toString();
}

describe('rotation', () => {
  test('app-key-rotation: disk and environment move to new keys, and the old keys are given to nobody afterwards', async () => {
    const workload = labWorkload('rotated');
    lab.webhook.app = () => ALLOW;
    const before = await keysOf(workload);
    let disk = writeDisk(before, 'ten years of data');
    const oldEnvironment = await sealTo(workload, 0, 'old');
    expect(open(before, oldEnvironment)).toContain('old');

    // 1. The policy raises the epoch; the old one may still be asked for.
    setEpoch(1, 0);
    const fresh = await keysOf(workload);
    expect(fresh.previous_keys).toEqual([]);
    for (const name of ['disk_crypt_key', 'env_crypt_key', 'k256_key'] as const) {
      expect(fresh[name]).not.toBe(before[name]);
    }

    // 2. A machine with data gets both, and moves.
    const both = await keysOf(workload, 0);
    expect(both.disk_crypt_key).toBe(fresh.disk_crypt_key);
    expect(both.previous_keys).toHaveLength(1);
    const [old] = both.previous_keys;
    expect(old?.disk_crypt_key).toBe(before.disk_crypt_key);
    disk = writeDisk(both, readDisk(old ?? both, disk));
    const newEnvironment = await sealTo(workload, 1, 'new');
    expect(open(both, newEnvironment)).toContain('new');
    expect(() => open(both, oldEnvironment)).toThrow();

    // 3. The old epoch ends.
    setEpoch(1, 1);
    const late = await ask(workload, 0);
    expect(errorOf(late)).toContain('Key epoch 0 is not released');
    expect(late.body).toContain('KEY_NOT_FOUND');
    const after = await keysOf(workload, 1);
    expect(after.previous_keys).toEqual([]);
    expect(readDisk(after, disk)).toBe('ten years of data');
    expect(() => readDisk(before, disk)).toThrow();
    // Epochs that never were are no way round the policy.
    for (const epoch of [2, 4_294_967_295])
      expect(errorOf(await ask(workload, epoch))).toContain('not released');
    // The root is the same: epoch 0 gives what it always gave, if the policy ever goes back.
    lab.webhook.app = () => ALLOW;
    expect((await keysOf(workload)).k256_key).toBe(before.k256_key);
  });
});
