export { localFacts } from './agent/local-evidence.ts';
export { thisMachine } from './boot/disk/machine-host.ts';
export { mountSharedDisk, unmountSharedDisk } from './boot/disk/shared-disk.ts';
export { machineSteps } from './boot/machine-steps.ts';
export { type Prepared, type PrepareOptions, prepare } from './boot/prepare.ts';
export { keysWithoutProvider } from './boot/seed-keys.ts';
export {
  type GuestConfig,
  loadGuestConfig,
  parseGuestConfig,
  type SimulatorConfig,
} from './config/guest-config.ts';
export { warnIfSimulated } from './config/warn-if-simulated.ts';
export { GuestError, type GuestErrorCode, type GuestErrorDetails } from './errors.ts';
export { startGatewayClient, type TunnelPlace } from './gateway/start-gateway-client.ts';
export { hostNotifier } from './host/host-api.ts';
export { hostTransport } from './host/host-transport.ts';
export { createLogger, type Logger } from './log.ts';
export { openConfiguredDevice } from './open-device.ts';
export { type ServedAgent, serveAgent } from './serve-agent.ts';
export { serveEnclaveAgent } from './serve-enclave-agent.ts';
