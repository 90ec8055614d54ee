import type { GcpSettings } from './gcp-settings.ts';
import { BOOT_IMAGE, DEVICE, dataDiskName, firewallTag, ownLabels } from './resources.ts';

const GB_SHARED = 1;

/** What `instances.insert` takes: TDX, a vTPM, and the disks in the order boot, data, shared. */
export function instanceBody(settings: GcpSettings, bootImage: string, sharedImage: string): object {
  const { instance, zone, machineType } = settings;
  const labels = ownLabels(settings);
  return {
    name: instance,
    machineType: `zones/${zone}/machineTypes/${machineType}`,
    confidentialInstanceConfig: { enableConfidentialCompute: true, confidentialInstanceType: 'TDX' },
    scheduling: {
      onHostMaintenance: 'TERMINATE',
      automaticRestart: !settings.isSpot,
      provisioningModel: settings.isSpot ? 'SPOT' : 'STANDARD',
      ...(settings.isSpot ? { instanceTerminationAction: 'STOP' } : {}),
    },
    // The image is not signed for Secure Boot; the vTPM measures it.
    shieldedInstanceConfig: { enableVtpm: true, enableIntegrityMonitoring: true, enableSecureBoot: false },
    disks: [
      newDisk(settings, DEVICE.boot, instance, bootImage, settings.bootDiskSize),
      dataDisk(settings),
      newDisk(settings, DEVICE.shared, sharedImage, sharedImage, GB_SHARED),
    ],
    networkInterfaces: [networkInterface(settings)],
    tags: { items: [...new Set([...settings.tags, firewallTag(instance)])] },
    labels: { ...labels, [BOOT_IMAGE]: bootImage },
    // Without an account of its own there is no credential in the guest that could leak.
    ...(settings.serviceAccount === ''
      ? {}
      : { serviceAccounts: [{ email: settings.serviceAccount, scopes: scopesOf(settings) }] }),
  };
}

/** The data disk as it is attached: no instance takes it along when it is deleted. */
export function dataDisk({ zone, project, instance }: GcpSettings): object {
  return {
    ...{ deviceName: DEVICE.data, boot: false, autoDelete: false, interface: 'NVME', mode: 'READ_WRITE' },
    source: `projects/${project}/zones/${zone}/disks/${dataDiskName(instance)}`,
  };
}

function newDisk(
  settings: GcpSettings,
  deviceName: string,
  diskName: string,
  image: string,
  gb: number,
): object {
  const { project, zone, diskType } = settings;
  return {
    ...{ deviceName, boot: deviceName === DEVICE.boot, autoDelete: true, interface: 'NVME' },
    initializeParams: {
      diskName,
      sourceImage: `projects/${project}/global/images/${image}`,
      diskSizeGb: String(gb),
      diskType: `zones/${zone}/diskTypes/${diskType}`,
      labels: ownLabels(settings),
    },
  };
}

/** What `disks.insert` takes for a disk of that image. */
export function diskBody(settings: GcpSettings, name: string, image: string, gb: number): object {
  const { project, zone, diskType } = settings;
  return {
    name,
    sizeGb: String(gb),
    type: `projects/${project}/zones/${zone}/diskTypes/${diskType}`,
    sourceImage: `projects/${project}/global/images/${image}`,
    labels: ownLabels(settings),
  };
}

function networkInterface(settings: GcpSettings): object {
  const { network, subnet, region, nicType, privateIp, externalIp, noPublicIp, project } = settings;
  return {
    network: network.includes('/') ? network : `projects/${project}/global/networks/${network}`,
    ...(subnet === ''
      ? {}
      : { subnetwork: subnet.includes('/') ? subnet : `regions/${region}/subnetworks/${subnet}` }),
    ...(privateIp === '' ? {} : { networkIP: privateIp }),
    nicType,
    ...(noPublicIp
      ? {}
      : {
          accessConfigs: [
            {
              ...{ type: 'ONE_TO_ONE_NAT', name: 'External NAT', networkTier: 'PREMIUM' },
              ...(externalIp === '' ? {} : { natIP: externalIp }),
            },
          ],
        }),
  };
}

function scopesOf({ scopes }: GcpSettings): readonly string[] {
  return scopes.length > 0 ? scopes : ['https://www.googleapis.com/auth/cloud-platform'];
}
