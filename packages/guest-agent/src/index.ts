export { type Prepared, type PrepareOptions, prepare } from './boot/prepare.ts';
export {
  type GuestConfig,
  loadGuestConfig,
  parseGuestConfig,
  type SimulatorConfig,
} from './config/guest-config.ts';
export { causeChain, GuestError, type GuestErrorCode, type GuestErrorDetails } from './errors.ts';
