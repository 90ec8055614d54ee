import { fromHex } from '@dstack-cloud/encoding';

/**
 * Security version numbers of the simulated machine. The TCB info's first level is exactly this, so an honest
 * machine is UpToDate. TEE_TCB_SVN[1] is 1: the module is appraised by its identity TDX_01 (docs/protocol/verification.md
 * section 2.3).
 */
export const PLATFORM_TCB: {
  readonly cpuSvn: Uint8Array;
  readonly pceSvn: number;
  readonly pceId: Uint8Array;
  readonly teeTcbSvn: Uint8Array;
  readonly qeIsvSvn: number;
} = {
  cpuSvn: fromHex('03030202040100050000000000000000'),
  pceSvn: 11,
  pceId: fromHex('0000'),
  teeTcbSvn: fromHex('05010600000000000000000000000000'),
  qeIsvSvn: 4,
};

/** The simulated quoting enclave, as its identity document describes it. */
export const QUOTING_ENCLAVE: {
  readonly mrSigner: Uint8Array;
  readonly attributes: Uint8Array;
  readonly isvProdId: number;
} = {
  mrSigner: fromHex('53494d554c41544544'.padEnd(64, '0')),
  attributes: fromHex('1100000000000000e700000000000000'),
  isvProdId: 2,
};
