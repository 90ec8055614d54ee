/** A machine of our image whose keys are in its TPM: booted by firmware, with power cuts instead of shutdowns. */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { approvedBytes, serializeSealApproval } from '@dstack-cloud/attestation/attester';
import { fromHex } from '@dstack-cloud/encoding';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { devImage } from '../harness/vm/dev-image.ts';
import { emptySysConfig } from '../harness/vm/empty-sys-config.ts';
import { bootUntil, missingForVm, type Vm } from '../harness/vm/machine.ts';

/** Four boots by firmware, each a minute on a quiet machine without KVM. */
const TEST_MS = 1_800_000;
const BOOT_MS = 600_000;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vm-tpm-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const owner = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const approver = owner.publicKey.export({ format: 'der', type: 'spki' }).toString('hex');

const compose = (script: string): string =>
  JSON.stringify({
    manifest_version: 2,
    name: 'vm-tpm',
    runner: 'bash',
    bash_script: script,
    secure_time: false,
    storage_fs: 'ext4',
    no_instance_id: true,
    key_provider: 'tpm',
    seal_approval_key: approver,
  });

function approval(policy: string, number: number): string {
  const bytes = fromHex(policy);
  const key = { key: owner.privateKey, dsaEncoding: 'ieee-p1363' } as const;
  const signature = sign('sha256', approvedBytes({ policy: bytes, number }).message, key);
  return serializeSealApproval({ policy: bytes, number, signature: new Uint8Array(signature) });
}

const needed = ['qemu-system-x86_64', 'apt-get', 'dpkg-deb', 'swtpm', 'swtpm_setup', ...missingForVm()];
describeWithPrograms('guest', needed, () => {
  test('vm-tpm-provider: keys stay over power cuts; a changed application is refused until its owner approves', {
    timeout: TEST_MS,
  }, async (context) => {
    const built = await devImage();
    if ('missing' in built) return context.skip(built.missing);
    const seedFile = join(directory, 'seed');
    writeFileSync(seedFile, randomBytes(32));
    /** Boots until the disk is open, or the boot failed; then the power is cut. */
    const boot = async (script: string, more: Record<string, string> = {}): Promise<string> => {
      const options = {
        folder: join(directory, 'machine'),
        image: built.folder,
        seedFile,
        measured: true,
        shared: { 'app-compose.json': compose(script), '.sys-config.json': emptySysConfig(), ...more },
      };
      const end = (vm: Vm) =>
        vm.notifications.find(({ event, payload }) => event === 'boot.error' || payload === 'data disk ready')
          ?.payload;
      const { vm, found } = await bootUntil(options, 'the end of the preparation', end, BOOT_MS);
      await vm.kill();
      return found;
    };
    expect(await boot('sleep 600')).toBe('data disk ready');
    const refused = await boot('sleep 601');
    expect(refused).toMatch(/^This system may not have what the TPM sealed: .*PCR 14 \(application\) was/);
    expect(refused).not.toContain('PCR 4 ');
    const [, number, policy] = /approval (\d+) of policy ([0-9a-f]{64})/.exec(refused) ?? [];
    expect(number).toBe('2');
    // The disk opens with the key that the first boot gave it.
    const approved = { '.seal-approval.json': approval(policy!, 2) };
    expect(await boot('sleep 601', approved)).toBe('data disk ready');
    // It was sealed to the new system: that one needs no approval any more.
    expect(await boot('sleep 601')).toBe('data disk ready');
  });
});
