import type { CvmStatus } from '@dstack-cloud/vmm';
import { expect, it } from 'vitest';
import { vmRows } from './report-local.ts';

type Run = NonNullable<CvmStatus['state']['vm']>;

function rows(vm: Partial<Run> | null): Record<string, string> {
  const manifest = { driver: 'vm', vm: { vcpu: 2, memory: 2048, disk_size: 8 } };
  const run = { qemu_version: '9.1.0', os_image_hash: 'ab', restarts: 0, no_kvm: null, cpu: '', ...vm };
  const status = { manifest, state: { vm: vm === null ? null : run } };
  return Object.fromEntries(vmRows(status as unknown as CvmStatus));
}

it('status of a virtual machine names accelerator and processor', () => {
  expect(rows({ acceleration: 'kvm', cpu: 'host (Some CPU @ 2 GHz)' })).toMatchObject({
    'Acceleration:': 'KVM',
    'CPU model:': 'host (Some CPU @ 2 GHz)',
  });
  expect(rows({ acceleration: 'tcg', cpu: 'max,la57=off', no_kvm: 'there is no /dev/kvm' })).toMatchObject({
    'Acceleration:': 'none, software emulation by TCG (KVM: there is no /dev/kvm)',
    'CPU model:': 'max,la57=off',
  });
});

it('of one that never ran, or ran before the processor was recorded, it says what is known', () => {
  expect(Object.keys(rows(null))).toEqual(['Driver:']);
  expect(Object.keys(rows({ acceleration: 'kvm' }))).not.toContain('CPU model:');
});
