/** Options of `verify` and `bundle`, for node:util's parseArgs. */
export const EVIDENCE_OPTIONS = {
  at: { type: 'string' },
  collateral: { type: 'string', multiple: true },
  root: { type: 'string', multiple: true },
  'report-data': { type: 'string' },
  expect: { type: 'string', multiple: true },
  chain: { type: 'string', multiple: true },
  policy: { type: 'string' },
  'no-firmware-endorsement': { type: 'boolean' },
} as const;
