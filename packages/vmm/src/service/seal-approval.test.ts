/** Approvals for what a TPM has sealed, on their way from an operator to a machine. */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { approvedBytes, serializeSealApproval } from '@dstack-cloud/attestation/attester';
import { create, vmm } from '@dstack-cloud/prpc';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { writeBootDisk } from '../test/boot-disk.ts';
import type { Machines } from './machines/machines.ts';
import { serviceIn, stoppedMachine } from './test/service-in.ts';
import { appCompose } from './test/service-lab.ts';
import { writeTinyImage } from './test/tiny-image.ts';

// Each change hashes and compares a whole boot partition.
vi.setConfig({ testTimeout: 120_000 });

const owner = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const spki = ({ publicKey }: { publicKey: KeyObject }): string =>
  publicKey.export({ format: 'der', type: 'spki' }).toString('hex');

function approval(key: KeyObject, number = 2): string {
  const policy = new Uint8Array(32).fill(7);
  const { message } = approvedBytes({ policy, number });
  const signature = new Uint8Array(sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' }));
  return serializeSealApproval({ policy, number, signature });
}

const sealing = (change: object = {}): string =>
  appCompose({ key_provider: 'tpm', seal_approval_key: spki(owner), ...change });

let root: string;
let service: Machines;
beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'vmm-seal-'));
  await writeBootDisk(writeTinyImage(join(root, 'image'), 'tiny-sleeps', 'sleeps'));
  service = serviceIn(root);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const make = async (change: Partial<vmm.VmConfiguration>): Promise<string> =>
  await service.create({ ...stoppedMachine(), ...change });
const update = async (id: string, change: object): Promise<void> =>
  await service.update(id, create(vmm.UpdateVmRequestSchema, { id, ...change }));
const handed = (id: string): string => join(root, 'vm', id, 'shared/.seal-approval.json');

describeWithPrograms('an approval for what a TPM sealed', ['qemu-system-x86_64', 'swtpm'], () => {
  it('reaches the machine, which firmware boots; another application or image takes it away', async () => {
    const id = await make({ composeFile: sealing() });
    expect(existsSync(handed(id))).toBe(false);
    const { vm } = JSON.parse(readFileSync(join(root, 'vm', id, 'vm-manifest.json'), 'utf8'));
    expect(vm).toMatchObject({ boot: 'disk', tpm: 'swtpm' });
    const text = approval(owner.privateKey);
    await update(id, { composeFile: sealing({ name: 'two' }), sealApproval: text });
    expect(readFileSync(handed(id), 'utf8')).toBe(text);
    await update(id, { userConfig: 'kept' });
    expect(readFileSync(handed(id), 'utf8')).toBe(text);
    await update(id, { composeFile: sealing({ name: 'three' }) });
    expect(existsSync(handed(id))).toBe(false);
  });

  it('is not signed by the key of the application before, when the new one names another', async () => {
    const id = await make({ composeFile: sealing() });
    const composeFile = sealing({ seal_approval_key: spki(other) });
    await expect(update(id, { composeFile, sealApproval: approval(owner.privateKey) })).rejects.toThrow(
      /not signed by/,
    );
    expect(existsSync(handed(id))).toBe(false);
  });

  it.each([
    ['by another key', sealing(), approval(other.privateKey), /not signed by the key/],
    [
      'for an application without such a key',
      sealing({ seal_approval_key: '' }),
      approval(owner.privateKey),
      /names no key/,
    ],
    ['for an application that seals nothing', appCompose(), approval(owner.privateKey), /seals nothing/],
    ['that is no approval', sealing(), '{"version": 2}', /another version/],
    ['that is too long', sealing(), ' '.repeat(1025), /1025 bytes/],
  ])('is refused %s, before anything is made', async (_, composeFile, sealApproval, message) => {
    await expect(make({ composeFile, sealApproval })).rejects.toThrow(message);
    expect(await service.list()).toEqual([]);
  });
});
