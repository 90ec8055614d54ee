import type { vmm } from '@dstack-cloud/prpc';
import type { VmGpus } from '../../manifest/vm-settings.ts';
import type { VmmConfig } from '../config/vmm-config.ts';
import { type Configuration, wantedNetworks } from './configuration.ts';

/** A change of a machine; what is empty or absent stays. */
export type MachineChange = Pick<
  vmm.UpdateVmRequest,
  | 'composeFile'
  | 'encryptedEnv'
  | 'userConfig'
  | 'sealApproval'
  | 'updatePorts'
  | 'ports'
  | 'updateKmsUrls'
  | 'kmsUrls'
  | 'updateGatewayUrls'
  | 'gatewayUrls'
  | 'gpus'
  | 'vcpu'
  | 'memory'
  | 'diskSize'
  | 'image'
  | 'noTee'
  | 'updateNetworking'
  | 'networks'
>;

/**
 * What a machine is after a change.
 *
 * @param gpus the devices that it is to have
 * @throws VmmError `bad_option`
 */
export function changedConfiguration(
  before: Configuration,
  change: MachineChange,
  gpus: VmGpus | null,
  { cvm }: VmmConfig,
): Configuration {
  return {
    ...before,
    composeFile: change.composeFile || before.composeFile,
    encryptedEnv: change.encryptedEnv.length > 0 ? change.encryptedEnv : before.encryptedEnv,
    userConfig: change.userConfig || before.userConfig,
    sealApproval: change.sealApproval || (isOtherSystem(before, change) ? '' : before.sealApproval),
    ports: change.updatePorts ? change.ports : before.ports,
    kmsUrls: change.updateKmsUrls ? change.kmsUrls : before.kmsUrls,
    gatewayUrls: change.updateGatewayUrls ? change.gatewayUrls : before.gatewayUrls,
    vcpu: change.vcpu ?? before.vcpu,
    memory: change.memory ?? before.memory,
    diskSize: change.diskSize ?? before.diskSize,
    image: change.image ?? before.image,
    noTee: change.noTee ?? before.noTee,
    networks: change.updateNetworking ? wantedNetworks(change.networks, cvm) : before.networks,
    gpus,
  };
}

/** An approval names one system: with another application or image it could serve no more. */
function isOtherSystem(before: Configuration, { composeFile, image }: MachineChange): boolean {
  return (
    (composeFile || before.composeFile) !== before.composeFile || (image ?? before.image) !== before.image
  );
}
