export {
  type CollateralServer,
  type CollateralServerOptions,
  collateralServer,
} from './collateral/collateral-server.ts';
export { SimulatorError, type SimulatorErrorCode } from './errors.ts';
export type { GceImage } from './gcp/gce-boot-log.ts';
export { createGcp, type GcpBoot, type GcpMachine, type SimulatedGcp } from './gcp/gcp-platform.ts';
export { type ImageMachine, simulatedImageBoot } from './image/image-boot.ts';
export { type SimulatedImageFiles, simulatedImageFiles } from './image/image-files.ts';
export {
  type SimulatedBoot,
  type SimulatedBootEvent,
  type SimulatedMachine,
  simulatedBoot,
} from './image/simulated-image.ts';
export {
  type KeyProvider,
  type KeyProviderOptions,
  keyProvider,
  sealingKeyFor,
} from './key-provider/key-provider.ts';
export {
  createNitro,
  type NitroDocumentInput,
  type NitroOptions,
  type NitroPcr,
  type SimulatedNitro,
} from './nitro/nitro-platform.ts';
export { type NsmEndpointOptions, nsmEndpoint } from './nitro/nsm-endpoint.ts';
export { createPlatform, type PlatformOptions, type SimulatedPlatform } from './platform.ts';
export type { CollateralOptions } from './tdx/collateral.ts';
export type { QuoteOptions, SimulatedEnclave } from './tdx/quote.ts';
export { DEBUG_ATTRIBUTES, PRODUCTION_ATTRIBUTES, type TdState } from './tdx/td-state.ts';
export type { SocketServer } from './tsm/socket-server.ts';
export { TsmDevice, type TsmDeviceOptions, type TsmEntry } from './tsm/tsm-device.ts';
export { type TsmEndpoint, type TsmEndpointOptions, tsmEndpoint } from './tsm/tsm-endpoint.ts';
