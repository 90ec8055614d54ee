export { createMetrics, type Metrics } from './metrics.ts';
export { createService, type ServiceOptions } from './server.ts';
