/** What a KMS says of evidence, and what to do about it. */
const REFUSALS: readonly (readonly [RegExp, string])[] = [
  [
    /self authorization|on-chain state|unavailable|rate limit/i,
    'it could not decide, which is no denial: see the log of the KMS and try again',
  ],
  [
    /debug/i,
    'the enclave runs in debug mode, in which nothing of it is measured: run it without --debug-mode',
  ],
  [
    /stale|expired|not yet valid|nonce has expired|too old|in the future/i,
    'the attestation document is too old for the KMS: the clocks of the two differ, or something held the document back',
  ],
  [/nonce/i, 'the attestation document does not answer the nonce of this KMS: something between replaced it'],
  [
    /(?:image|compose) hash|image is not allowed|aggregated mr|mr .*not allowed|measurement/i,
    "this image is not registered: add its OS_IMAGE_HASH to the KMS contract and to the application's (dstack-util get-keys --show-mrs prints it)",
  ],
  [
    /app.*not (?:registered|found)|app id/i,
    'the application is not registered at the contract of this KMS, or --app-id is not its address',
  ],
  [/device/i, 'the device is not allowed: allow any device for the application, or add this one'],
];

/** What to do about the refusal of a KMS; undefined for one that says all itself. */
export function refusalHint(message: string): string | undefined {
  return REFUSALS.find(([pattern]) => pattern.test(message))?.[1];
}
