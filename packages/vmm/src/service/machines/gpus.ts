import type { vmm } from '@dstack-cloud/prpc';
import { VmmError } from '../../errors.ts';
import { pciSlot } from '../../manifest/pci-slot.ts';
import type { VmGpus, VmSettings } from '../../manifest/vm-settings.ts';
import { share } from '../../vm/devices/device-plan.ts';
import type { HostHardware } from '../../vm/devices/host-hardware.ts';
import { type PciDevice, pciDevice, pciDevices } from '../../vm/devices/pci-devices.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import type { Machine } from './machine.ts';

type GpuConfig = VmmConfig['cvm']['gpu'];

/** The GPUs of this host that callers may name. */
export async function offeredGpus(config: GpuConfig, host: HostHardware): Promise<PciDevice[]> {
  if (!config.enabled) return [];
  const all = await pciDevices(host);
  return all.filter(
    ({ kind, product, slot }) => kind === 'gpu' && config.listing.includes(product) && isOpen(config, slot),
  );
}

/** The devices that a caller asked for, by address. @throws VmmError `bad_option` */
export async function wantedGpus(
  wanted: vmm.GpuConfig | undefined,
  config: GpuConfig,
  host: HostHardware,
): Promise<VmGpus | null> {
  const { attachMode = '', gpus = [] } = wanted ?? {};
  if (attachMode !== 'all' && gpus.length === 0) return null;
  if (!config.enabled)
    throw refusal('This host gives no GPUs to machines', 'no gpus, or cvm.gpu.enabled = true', attachMode);
  if (attachMode === 'all') return await allGpus(config, host);
  if (attachMode !== 'listed' && attachMode !== '')
    throw refusal('gpus.attach_mode cannot be used', 'listed or all', attachMode);
  const offered = new Set((await offeredGpus(config, host)).map(({ slot }) => slot));
  const slots = gpus.map(({ slot }) => {
    const known = pciSlot(slot);
    if (known !== undefined && offered.has(known)) return known;
    throw refusal(
      `GPU ${JSON.stringify(slot.slice(0, 20))} is not offered`,
      [...offered].join(', ') || 'none: this host has no GPU of cvm.gpu.listing',
      slot,
    );
  });
  const twice = slots.find((slot, index) => slots.indexOf(slot) < index);
  if (twice !== undefined) throw refusal(`GPU ${twice} is asked for twice`, 'each once', twice);
  return { attach_mode: 'listed', gpus: slots.map((slot) => ({ slot })), bridges: [] };
}

async function allGpus(config: GpuConfig, host: HostHardware): Promise<VmGpus> {
  if (!config.allow_attach_all)
    throw refusal('All GPUs cannot be asked for', 'listed gpus, or cvm.gpu.allow_attach_all = true', 'all');
  const open = (await pciDevices(host)).filter(({ slot }) => isOpen(config, slot));
  const slots = (kind: PciDevice['kind']): { slot: string }[] =>
    open.filter((device) => device.kind === kind).map(({ slot }) => ({ slot }));
  const gpus = slots('gpu');
  if (gpus.length === 0) throw refusal('This host has no GPUs', 'at least one', 'none');
  return { attach_mode: 'all', gpus, bridges: slots('nvswitch') };
}

function isOpen({ include, exclude }: GpuConfig, slot: string): boolean {
  const has = (list: readonly string[]): boolean => list.some((one) => pciSlot(one) === slot);
  return !has(exclude) && (include.length === 0 || has(include));
}

/** Refuses a start with a device that another machine has. @throws VmmError `no_resources` */
export function requireUnclaimed(wanted: VmGpus | null, others: readonly Machine[]): void {
  for (const { slot } of devicesOf(wanted)) {
    const owner = claims(others).get(slot);
    if (owner !== undefined)
      throw new VmmError('no_resources', `GPU ${slot} belongs to ${owner}, which runs: stop that first`, {
        expected: 'a GPU of no running machine',
        found: owner,
      });
  }
}

/** Who has which device: machines that run, or are to. */
export function claims(machines: readonly Machine[]): Map<string, string> {
  const owners = new Map<string, string>();
  for (const { holdsHost, record, manifest } of machines)
    if (manifest !== undefined && (holdsHost || record.started))
      for (const { slot } of devicesOf(manifest.vm.gpus)) owners.set(slot, manifest.name);
  return owners;
}

/** Processors and memory as the driver rounds them. */
export async function roundedSize(
  wanted: Pick<VmSettings, 'vcpu' | 'memory' | 'hugepages' | 'gpus'>,
  host: HostHardware,
): Promise<Pick<VmSettings, 'vcpu' | 'memory'>> {
  const found = await Promise.all((wanted.gpus?.gpus ?? []).map(({ slot }) => pciDevice(host, slot)));
  const { vcpu, memory } = share(
    wanted,
    found.filter((device) => device !== undefined),
  );
  return { vcpu, memory };
}

function devicesOf(gpus: VmGpus | null): readonly { readonly slot: string }[] {
  return gpus === null ? [] : [...gpus.gpus, ...gpus.bridges];
}

function refusal(message: string, expected: string, found: string): VmmError {
  return new VmmError('bad_option', message, { expected, found: found.slice(0, 80) || 'some' });
}
