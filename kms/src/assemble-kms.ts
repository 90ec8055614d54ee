import type { Kms } from './kms.ts';
import { CurrentKeys } from './policy/current-keys.ts';
import type { Services } from './services.ts';

/** What a process has of its own: one that serves alone, or one of several workers. */
export type OwnParts = Pick<Kms, 'config' | 'keys' | 'audit' | 'limits' | 'images' | 'service'>;

/** Everything that the main listener's methods work with, in either kind of process. */
export function assembleKms(
  { policy, evidence, self, log, metrics, simulated, now }: Services,
  own: OwnParts,
): Kms {
  return { policy, evidence, self, log, metrics, simulated, now, currentKeys: new CurrentKeys(), ...own };
}
