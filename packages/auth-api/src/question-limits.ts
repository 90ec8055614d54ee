/** What a question may have, and cost. */
export const QUESTION_LIMITS = {
  /** What a key service sends at most: 128 advisories of 256 characters and 4 KiB as hex are in it. */
  bytes: 49_152,
  /** JSON values: 12 members and 128 advisories; the rest is for members of newer peers. */
  values: 256,
  /** Up to this size a question costs nothing: it has about 1 KiB, and a key service has many of them. */
  freeBytes: 4_096,
  /** So much beyond that costs as much as a connection. */
  costBytes: 1_024,
} as const;
