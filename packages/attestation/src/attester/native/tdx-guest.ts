import { concatBytes } from '@dstack-cloud/encoding';
import { deviceIoctl } from './ioctl.ts';

/** _IOWR('T', 1, 1088) */
const GET_REPORT0 = 0xc4405401;
/** _IOR('T', 3, 49): the kernel declares the direction so. */
const EXTEND_RTMR = 0x80315403;
const REPORT_DATA_BYTES = 64;
const TD_REPORT_BYTES = 1024;

/**
 * The 1024-byte TDREPORT over 64 bytes of report data (docs/protocol/evidence.md section 12.3).
 * @throws AttestationError `device`
 */
export async function tdReportByIoctl(device: string, reportData: Uint8Array): Promise<Uint8Array> {
  const argument = new Uint8Array(REPORT_DATA_BYTES + TD_REPORT_BYTES);
  argument.set(reportData.subarray(0, REPORT_DATA_BYTES));
  await deviceIoctl(device, GET_REPORT0, argument);
  return argument.subarray(REPORT_DATA_BYTES);
}

/** Extends a register on kernels without the sysfs files. @throws AttestationError `device` */
export async function extendRtmrByIoctl(device: string, index: number, digest: Uint8Array): Promise<void> {
  await deviceIoctl(device, EXTEND_RTMR, concatBytes(digest, Uint8Array.of(index)));
}
