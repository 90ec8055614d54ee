export { localFacts } from './agent/local-evidence.ts';
export { thisMachine } from './boot/disk/machine-host.ts';
export { mountSharedDisk, unmountSharedDisk } from './boot/disk/shared-disk.ts';
export { machineSteps } from './boot/machine-steps.ts';
export { type Prepared, type PrepareOptions, prepare } from './boot/prepare.ts';
export {
  type GuestConfig,
  loadGuestConfig,
  parseGuestConfig,
  type SimulatorConfig,
} from './config/guest-config.ts';
export { GuestError, type GuestErrorCode, type GuestErrorDetails } from './errors.ts';
export { hostNotifier } from './host/host-api.ts';
export { hostTransport } from './host/host-transport.ts';
export { createLogger } from './log.ts';
export { openConfiguredDevice } from './open-device.ts';
