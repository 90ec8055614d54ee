export { isAlive, type ProcessIdentity, processIdentity } from '@dstack-cloud/files';
export { checkCvm, createCvm } from './change/create-cvm.ts';
export type { CreateOptions } from './change/create-options.ts';
export { closeUpdate, type UpdateOptions, updateCvm } from './change/update-cvm.ts';
export { HOW_ENCLAVES_RUN } from './enclave/enclave-processes.ts';
export { VmmError, type VmmErrorCode } from './errors.ts';
export { machineFolder } from './folder/machine-folder.ts';
export { hasOpenUpdate } from './folder/open-update.ts';
export type { HostShared } from './folder/shared-update.ts';
export { type Notification, startHostApi } from './host-api/host-api.ts';
export { requireKeyProvider } from './host-api/key-provider.ts';
export { cvmLogPath, cvmLogs, followCvmLogs, type LogOptions } from './logs/logs.ts';
export { type Ingress, proxyConfigText } from './manifest/enclave-settings.ts';
export {
  type CvmManifest,
  isImageName,
  isMachineName,
  type ProcessManifest,
  readManifest,
  type VmManifest,
} from './manifest/manifest.ts';
export type { VmNetwork, VmOptions, VmSettings } from './manifest/vm-settings.ts';
export { freePort, requireFreePort } from './ports/ports.ts';
export { Guard } from './programs/guard.ts';
export {
  containerProgramsDirectory,
  enclaveProgramsDirectory,
  guestProgramDirectory,
  nitroHostDirectory,
  programDirectory,
  resolveProgram,
} from './programs/programs.ts';
export { sendSignal } from './programs/send-signal.ts';
export { removeCvm, type StartOptions, startCvm, stopCvm } from './run/lifecycle.ts';
export type { CvmState, VmRun } from './state/state.ts';
export { type CvmStatus, cvmStatus, listCvms } from './state/status.ts';
export { chooseAcceleration } from './vm/acceleration.ts';
export { bootFor } from './vm/boot-for.ts';
export { callGuest } from './vm/call-guest.ts';
export { findProgram } from './vm/find-program.ts';
export { processorArguments } from './vm/qemu-arguments.ts';
export { qemuProgram } from './vm/qemu-program.ts';
export { QmpClient, type QmpEvent } from './vm/qmp-client.ts';
export { vmImage } from './vm/vm-image.ts';
export { dialGuest, vsockTransport } from './vm/vsock.ts';
