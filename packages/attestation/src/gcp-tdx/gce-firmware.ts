/**
 * PCR 0 of the firmware that Google runs TDs with: "GCE Virtual Firmware v2" and GCE NonHostInfo with technology byte
 * 3, TDX (docs/protocol/verification.md section 4 step 7). 32 bytes, hex. The default of the lists of accepted
 * firmware: when Google ships another one, the list is configured instead.
 */
export const GCE_TDX_PCR0 = '0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802';
