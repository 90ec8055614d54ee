import type { BootInfo } from '@dstack-cloud/attestation';

/** `length` equal bytes. */
export function filled(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

/** The facts that recorded call data was made of. */
export function facts(changes: Partial<BootInfo> = {}): BootInfo {
  return {
    mode: 'dstack-tdx',
    appId: filled(20, 0x11),
    composeHash: filled(32, 0x22),
    instanceId: filled(20, 0x33),
    deviceId: filled(32, 0x44),
    mrAggregated: filled(32, 0x55),
    mrSystem: filled(32, 0x66),
    osImageHash: filled(32, 0x77),
    keyProviderInfo: new Uint8Array(),
    tcbStatus: 'UpToDate',
    advisoryIds: ['INTEL-SA-00837'],
    ...changes,
  };
}
