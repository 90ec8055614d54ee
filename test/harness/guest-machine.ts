/** A machine with the guest's own programs, its keys from a key service of the lab. It keeps its disk over restarts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { serializeInstanceInfo, serializeSysConfig, writeAppCompose } from '@dstack-cloud/app';
import { toHex } from '@dstack-cloud/encoding';
import { createCvm, processIdentity, removeCvm, startCvm, stopCvm, updateCvm } from '@dstack-cloud/vmm';
import type { KmsLab } from './kms-lab.ts';
import { bootOf, type Workload } from './simulated-workload.ts';

export type GuestMachine = {
  /** Boots it, or boots it again, with this sealed environment; the variables that its application sees. */
  boot(encryptedEnv: Uint8Array | undefined): Promise<Record<string, string>>;
  /** What the guest remembers of its keys. */
  keyState(): { key_epoch: number; root_id?: string };
  remove(): Promise<void>;
};

export function guestMachine(lab: KmsLab, workload: Workload, kmsUrl: string): GuestMachine {
  const dir = join(lab.directory, `machine-${toHex(workload.appId).slice(0, 12)}`);
  const compose = writeAppCompose({
    name: 'guest',
    dockerComposeFile: 'services:\n  app:\n    image: none\n    command: ["sleep", "600"]\n',
    gatewayEnabled: false,
    publicLogs: true,
    publicSysinfo: true,
    publicTcbinfo: true,
    keyProviderId: '',
    allowedEnvs: ['SECRET'],
    noInstanceId: false,
    secureTime: false,
    keyProvider: 'kms',
    storageFs: 'ext4',
    preLaunchScript: '',
  });
  const work = join(dir, 'guest/dstack');
  let made = false;

  const options = (encryptedEnv: Uint8Array | undefined): Parameters<typeof createCvm>[0] => ({
    dir,
    name: 'guest',
    appId: toHex(workload.appId),
    image: workload.image,
    shared: {
      'app-compose.json': compose,
      '.sys-config.json': serializeSysConfig({
        kmsUrls: [kmsUrl],
        gatewayUrls: [],
        pccsUrl: lab.pccs.url,
        dockerRegistry: undefined,
        hostApiUrl: undefined,
        vmConfig: JSON.stringify(bootOf(workload.image).vmConfig),
      }),
      '.instance_info': new TextEncoder().encode(
        serializeInstanceInfo({
          appId: workload.appId as never,
          instanceIdSeed: workload.instanceId,
          instanceId: undefined,
        }),
      ),
      ...(encryptedEnv === undefined ? {} : { '.encrypted-env': encryptedEnv }),
    },
    seedFile: lab.seedFile,
    machine: 'lab',
    rootCaTdx: lab.rootFile,
    pccsUrl: lab.pccs.url,
    engine: 'process',
    // Whatever happens to the test, the machine ends with it.
    owner: processIdentity(process.pid) ?? null,
  });

  return {
    async boot(encryptedEnv) {
      if (made) {
        await stopCvm(dir);
        await updateCvm(options(encryptedEnv));
      } else {
        await createCvm(options(encryptedEnv));
        made = true;
      }
      await startCvm(dir, { signal: AbortSignal.timeout(60_000) });
      return JSON.parse(readFileSync(join(work, '.host-shared/.decrypted-env.json'), 'utf8'));
    },
    keyState: () => JSON.parse(readFileSync(join(work, 'persistent/.key-state.json'), 'utf8')),
    async remove() {
      if (!made) return;
      await stopCvm(dir);
      await removeCvm(dir);
    },
  };
}
