/**
 * Keys are changed while there is data: of one application by its epoch, of all by a new root. Nothing is lost, and the
 * old keys end (docs/kms.md, "Rotate").
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import { decryptEnv, encryptEnv } from '@dstack-cloud/keys';
import { freePort } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { guestMachine } from '../harness/guest-machine.ts';
import { type KmsHost, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { whileStopped } from '../harness/kms-subcommand.ts';
import { ALLOW } from '../harness/policy-webhook.ts';
import type { Workload } from '../harness/simulated-workload.ts';

type Keys = { disk_crypt_key: string; env_crypt_key: string; k256_key: string; key_epoch?: number };
type Answer = Keys & { previous_keys: Keys[] };

let lab: KmsLab;
let kms: KmsProcess;
let host: KmsHost;
beforeAll(async () => {
  lab = await startKmsLab();
  // Machines know it by its address, over restarts.
  host = await lab.host('rotating', { rpc: { port: await freePort() } });
  kms = await host.serve();
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

/** Sealed to the key of an epoch, or to the one that the application has now. */
async function sealTo({ appId }: Workload, epoch: number | undefined, value: string): Promise<Uint8Array> {
  const body = { app_id: toHex(appId), ...(epoch === undefined ? {} : { key_epoch: epoch }) };
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

/** What the policy says of roots, and of epochs, from now on. */
const say = (said: {
  keyEpoch?: number;
  minKeyEpoch?: number;
  keyRoot?: string;
  previousKeyRoots?: string[];
}) => {
  lab.webhook.app = () => ({ isAllowed: true, reason: '', gatewayAppId: 'any', ...said });
};

describe('machines', () => {
  test('guest-over-epochs-and-roots: a machine reads its environment over a change of epoch and a change of root', async () => {
    say({});
    const workload = labWorkload('machine');
    const machine = guestMachine(lab, workload, kms.url);
    try {
      const one = await sealTo(workload, undefined, 'one');
      expect(await machine.boot(one)).toEqual({ SECRET: 'one' });
      const { root_id: root } = machine.keyState();
      expect(machine.keyState()).toMatchObject({
        key_epoch: 0,
        root_id: expect.stringMatching(/^[0-9a-f]{40}$/),
      });

      // A new epoch; the environment is still sealed to the old one.
      setEpoch(1, 0);
      expect(await machine.boot(one)).toEqual({ SECRET: 'one' });
      expect(machine.keyState().key_epoch).toBe(0);
      // Again: what it needs is not forgotten because it has newer keys as well.
      expect(await machine.boot(one)).toEqual({ SECRET: 'one' });
      const two = await sealTo(workload, undefined, 'two');
      setEpoch(1, 1);
      expect(await machine.boot(two)).toEqual({ SECRET: 'two' });
      expect(machine.keyState()).toMatchObject({ key_epoch: 1, root_id: root });
      await expect(machine.boot(one)).rejects.toThrow(/decrypt the environment/);

      // A new root: nothing is released of the old one until the policy says so, and nothing is lost.
      const { result: rotated, ...restarted } = await whileStopped(
        host,
        kms,
        'rotate-root',
        '--retire',
        String(root),
      );
      kms = restarted.kms;
      expect(rotated).toMatchObject({ retired: [root], resumed: false, recorded: true });
      await expect(machine.boot(two)).rejects.toThrow(/decrypt the environment/);
      expect(machine.keyState()).toMatchObject({ key_epoch: 1, root_id: root });
      say({ keyEpoch: 1, minKeyEpoch: 1, previousKeyRoots: [String(root)] });
      expect(await machine.boot(two)).toEqual({ SECRET: 'two' });
      const three = await sealTo(workload, undefined, 'three');
      say({ keyEpoch: 1, minKeyEpoch: 1 });
      expect(await machine.boot(three)).toEqual({ SECRET: 'three' });
      expect(machine.keyState()).toMatchObject({ key_epoch: 1, root_id: rotated['root'] });

      // Held at the old root, it goes on as if there had been no change.
      say({ keyEpoch: 1, minKeyEpoch: 1, keyRoot: String(root) });
      await expect(machine.boot(three)).rejects.toThrow(/decrypt the environment/);
      expect(await machine.boot(two)).toEqual({ SECRET: 'two' });
    } finally {
      await machine.remove();
    }
  }, 300_000);
});
