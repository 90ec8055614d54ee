/** Bounds of untrusted attestations; real ones are of some ten kilobytes. */
export const LIMITS = {
  attestationBytes: 10_485_760,
  quoteBytes: 1_048_576,
  events: 4096,
  eventNameBytes: 4096,
  payloadBytes: 1_048_576,
  digestBytes: 64,
  pcrValues: 256,
  tpmEvents: 16384,
  certificates: 16,
  certificateBytes: 65_536,
  configBytes: 1_048_576,
  mrConfigBytes: 65_536,
} as const;
