import type { Logger } from '../log.ts';
import type { GuestConfig } from './guest-config.ts';

/** Says at every start when evidence that no vendor stands behind is accepted or given. */
export function warnIfSimulated({ tdxRootFile, simulator }: GuestConfig, log: Logger): void {
  if (tdxRootFile !== undefined) {
    log.warn(
      { root: tdxRootFile },
      'SIMULATED: a TDX root of the configuration is accepted; development only',
    );
  }
  if (simulator !== undefined) {
    log.warn('SIMULATED: evidence comes from a recorded fixture and its keys are public; development only');
  }
}
