export { SimulatorError, type SimulatorErrorCode } from './errors.ts';
export { createPlatform, type PlatformOptions, type SimulatedPlatform } from './platform.ts';
export type { CollateralOptions } from './tdx/collateral.ts';
export type { QuoteOptions } from './tdx/quote.ts';
export { DEBUG_ATTRIBUTES, PRODUCTION_ATTRIBUTES, type TdState } from './tdx/td-state.ts';
