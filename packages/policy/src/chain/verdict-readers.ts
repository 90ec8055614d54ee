import type { ChainSettings, Reads } from './chain-options.ts';
import { ethCallVerdicts } from './eth-call-verdicts.ts';
import type { VerdictReader } from './verdict-reader.ts';

/** The readers by name. */
export const verdictReaders: Readonly<Record<Reads, (settings: ChainSettings) => VerdictReader>> = {
  calls: ethCallVerdicts,
};
