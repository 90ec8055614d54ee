export type { EvidenceDevice } from './evidence-device.ts';
export { RuntimeEventLog } from './log/runtime-event-log.ts';
export { openTdxDevice, type TdxDeviceOptions } from './open-tdx-device.ts';
