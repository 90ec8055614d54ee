import { createHash } from 'node:crypto';

/** What marks of resources say instead of the seed, which only the machine needs to know. */
export function ownerOf(seed: string): string {
  return createHash('sha256').update(`dstack-cloud project ${seed}`).digest('hex').slice(0, 40);
}
