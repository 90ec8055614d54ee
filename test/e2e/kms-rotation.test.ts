/**
 * Keys are changed while there is data: of one application by its epoch, of all by a new root. Nothing is lost, and the
 * old keys end (docs/kms.md, "Rotate").
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import { decryptEnv, encryptEnv } from '@dstack-cloud/keys';
import { freePort } from '@dstack-cloud/vmm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callKms, errorOf } from '../harness/call-kms.ts';
import { guestMachine } from '../harness/guest-machine.ts';
import { type KmsHost, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { ALLOW } from '../harness/policy-webhook.ts';
import { repository, runCommand } from '../harness/run-command.ts';
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

/** Stops the key service, runs a subcommand on its key directory, starts it again. */
async function whileStopped(...args: string[]): Promise<Record<string, unknown>> {
  await kms.stop();
  const run = host.run({ args });
  const code = await run.ended();
  expect(code, run.output()).toBe(0);
  const json = run
    .output()
    .split('\n')
    .findLast((line) => line.startsWith('{') && !line.includes('"level"'));
  kms = await host.serve();
  return JSON.parse(json ?? '{}') as Record<string, unknown>;
}

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
      const rotated = await whileStopped('rotate-root', '--retire', String(root));
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

describe('rotation of the root', () => {
  test('root-rotation-in-use: a running key service is not rotated, and two commands do not both rotate', async () => {
    const run = host.run({ args: ['rotate-root'] });
    expect(await run.ended()).toBe(1);
    expect(run.output()).toContain('Another process uses the keys');
    await kms.stop();
    const before = readFileSync(join(host.certDir, 'root-k256.key'));
    const runs = [host.run({ args: ['rotate-root'] }), host.run({ args: ['rotate-root'] })];
    const retired = async () => JSON.parse(await rootsOf(host)) as { retired: unknown[] };
    const had = (await retired()).retired.length;
    const codes = await Promise.all(runs.map((one) => one.ended()));
    // At the same time one is refused, one after the other both rotate; each that says so adds one root.
    const made = codes.filter((code) => code === 0).length;
    expect(made).toBeGreaterThanOrEqual(1);
    expect((await retired()).retired).toHaveLength(had + made);
    expect(readFileSync(join(host.certDir, 'root-k256.key')).equals(before)).toBe(false);
    kms = await host.serve();
  }, 60_000);

  test('audit-over-rotation: the log is followed from the old signer to the new one, and refused without a hand-over', async () => {
    const file = join(lab.directory, 'cli.json');
    writeFileSync(file, '{}', { mode: 0o600 });
    const verify = (url: string, signer: string) =>
      runCommand(
        [
          ...[join(repository, 'dist/bin/dstack-cloud'), '--json', 'kms', 'audit', 'verify'],
          ...['--url', url, '--trust-signer', signer, '--log', join(host.certDir, 'audit')],
        ],
        { env: { DSTACK_CLOUD_CONFIG: file } },
      );
    const rootKey = async () => JSON.parse((await callKms(kms.url, 'GetMeta')).body).k256_pubkey as string;
    const old = await rootKey();
    expect((await verify(kms.url, old)).code).toBe(0);
    const seen = readFileSync(join(lab.directory, 'audit-heads.json'), 'utf8');
    await whileStopped('rotate-root');
    const present = await rootKey();
    expect(present).not.toBe(old);
    const followed = await verify(kms.url, old);
    expect(followed.code, followed.stderr).toBe(0);
    const { head, continues, root_key: root } = JSON.parse(followed.stdout);
    expect([continues.size, head.size - continues.size, root]).toEqual([
      JSON.parse(seen)[kms.url].head.size,
      1,
      present,
    ]);
    expect((await verify(kms.url, present)).code).toBe(0);

    // A key service that cannot show a hand-over from what was seen, or from what is trusted.
    const other = await (await lab.host('other-root')).serve();
    const otherRoot = JSON.parse((await callKms(other.url, 'GetMeta')).body).k256_pubkey as string;
    const untrusted = await verify(other.url, old);
    expect([untrusted.code, untrusted.stderr]).toEqual([4, expect.stringContaining('not certified')]);
    const moved = JSON.stringify({ [other.url]: JSON.parse(seen)[kms.url] });
    writeFileSync(join(lab.directory, 'audit-heads.json'), moved);
    const replaced = await verify(other.url, otherRoot);
    expect(replaced.code).not.toBe(0);
    expect(replaced.stderr).toContain('has another signer than before');
  }, 60_000);
});

/** What `dstack-kms roots` prints. */
async function rootsOf(machine: KmsHost): Promise<string> {
  for (let tries = 0; ; tries++) {
    const run = machine.run({ args: ['roots'] });
    if ((await run.ended()) === 0)
      return (
        run
          .output()
          .split('\n')
          .findLast((line) => line.startsWith('{')) ?? ''
      );
    // While the root is being changed there is nothing to print.
    if (tries > 20 || !run.output().includes('being rotated')) throw new Error(run.output());
  }
}
