export type { GatewayConfig } from './config/gateway-config.ts';
export { loadConfig, parseConfig } from './config/load-config.ts';
export { type RunningGateway, runGateway } from './gateway.ts';
