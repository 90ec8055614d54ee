export { isAlive, type ProcessIdentity, processIdentity } from '@dstack-cloud/files';
export {
  type CreateOptions,
  checkCvm,
  closeUpdate,
  createCvm,
  type UpdateOptions,
  updateCvm,
} from './create.ts';
export { VmmError, type VmmErrorCode } from './errors.ts';
export { Guard } from './guard.ts';
export { type Notification, startHostApi } from './host-api.ts';
export { requireKeyProvider } from './key-provider.ts';
export { removeCvm, type StartOptions, startCvm, stopCvm } from './lifecycle.ts';
export { cvmLogPath, cvmLogs, followCvmLogs, type LogOptions } from './logs.ts';
export { machineFolder } from './machine-folder.ts';
export {
  type CvmManifest,
  isImageName,
  isMachineName,
  type ProcessManifest,
  readManifest,
  type VmManifest,
} from './manifest.ts';
export { hasOpenUpdate } from './open-update.ts';
export { freePort, requireFreePort } from './ports.ts';
export {
  containerProgramsDirectory,
  guestProgramDirectory,
  programDirectory,
  resolveProgram,
} from './programs.ts';
export { sendSignal } from './send-signal.ts';
export type { HostShared } from './shared-update.ts';
export type { CvmState, VmRun } from './state.ts';
export { type CvmStatus, cvmStatus, listCvms } from './status.ts';
export { chooseAcceleration } from './vm/acceleration.ts';
export { bootFor } from './vm/boot-for.ts';
export { callGuest } from './vm/call-guest.ts';
export { findProgram } from './vm/find-program.ts';
export { processorArguments } from './vm/qemu-arguments.ts';
export { qemuProgram } from './vm/qemu-program.ts';
export { vmImage } from './vm/vm-image.ts';
export type { VmNetwork, VmOptions, VmSettings } from './vm/vm-settings.ts';
export { dialGuest, vsockTransport } from './vm/vsock.ts';
