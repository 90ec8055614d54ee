import { join } from 'node:path';
import {
  composeHash,
  defaultAppId,
  mrConfigIdV1,
  mrConfigIdV2,
  parseAppCompose,
  parseInstanceInfo,
} from '@dstack-cloud/app';
import { toBase64 } from '@dstack-cloud/encoding';
import type { HostShared } from '../folder/shared-update.ts';
import type { VmManifest } from '../manifest/manifest.ts';
import type { CvmPaths } from '../manifest/paths.ts';
import type { VmHost } from './check-vm.ts';
import { macAddress } from './mac-address.ts';
import type { Acceleration, QemuPlan } from './qemu-arguments.ts';

/** What a boot decides beside the manifest. */
interface PlannedRun {
  readonly host: VmHost;
  readonly acceleration: Acceleration;
  readonly runDir: string;
  readonly hostPorts: readonly number[];
  readonly shared: HostShared;
}

/** Control sockets of a machine, in its run folder. */
export const qmpSocket = (runDir: string): string => join(runDir, 'qmp.sock');
export const tpmSocket = (runDir: string): string => join(runDir, 'tpm.sock');

/** Port of the agent inside the guest. */
const AGENT_PORT = 8090;

/** The command line of one boot, as data. */
export function planMachine(manifest: VmManifest, paths: CvmPaths, run: PlannedRun): QemuPlan {
  const { vm, tee } = manifest;
  const { image, qemu, vsock, devices } = run.host;
  const file = (name: string): string => join(image.folder, name);
  const firstUser = vm.networks.findIndex(({ mode }) => mode === 'user');
  const agent = { ...manifest.agent_port, protocol: 'tcp' as const, to: AGENT_PORT };
  return {
    program: qemu.path,
    acceleration: run.acceleration,
    devices,
    boot:
      vm.boot === 'disk'
        ? { kind: 'disk', firmware: file(image.firmware), disk: file('disk.raw') }
        : {
            kind: 'direct',
            kernel: file(image.kernel),
            initrd: file(image.initrd),
            commandLine: image.commandLine,
            root: file(image.rootfs),
            // Without a TD nothing measures it, and QEMU's own loads the kernel several seconds earlier.
            firmware: tee.kind === 'tdx' ? file(image.firmware) : undefined,
          },
    dataDisk: paths.dataDisk,
    sharedDisk: paths.sharedDisk,
    imagesDisk: vm.images_disk ?? undefined,
    tdx:
      tee.kind === 'tdx' ? { mrConfigId: mrConfigId(run.shared), quoteServicePort: tee.qgs_port } : undefined,
    networks: vm.networks.map((network, index) => ({
      mac: macAddress(manifest.id, index),
      backend:
        network.mode === 'bridge'
          ? { mode: 'bridge', bridge: network.bridge_name }
          : { mode: 'user', ports: index === firstUser ? [...manifest.port_map, agent] : [] },
    })),
    vsock: vsock.device({ dir: run.runDir, cid: vm.cid, hostPorts: run.hostPorts }),
    tpm: vm.tpm === 'swtpm' ? tpmSocket(run.runDir) : undefined,
    qmp: qmpSocket(run.runDir),
  };
}

/** What binds a TD to its application: the second form when the application pins its key provider. */
function mrConfigId(shared: HostShared): string {
  const compose = shared['app-compose.json'] ?? new Uint8Array();
  const { keyProvider, keyProviderId } = parseAppCompose(compose);
  const hash = composeHash(compose);
  if (keyProviderId === undefined || keyProviderId.length === 0) return toBase64(mrConfigIdV1(hash));
  const info = shared['.instance_info'];
  const given = info === undefined ? undefined : parseInstanceInfo(info).appId;
  const appId = given ?? defaultAppId(hash);
  return toBase64(mrConfigIdV2({ composeHash: hash, appId, keyProvider, keyProviderId }));
}
