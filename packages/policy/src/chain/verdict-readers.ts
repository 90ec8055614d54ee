import type { ChainSettings, Reads } from './chain-options.ts';
import { ethCallInfo, type InfoReader } from './contract-info.ts';
import { ethCallVerdicts } from './eth-call-verdicts.ts';
import { ProofVerdicts } from './proof/proof-verdicts.ts';
import type { VerdictReader } from './verdict-reader.ts';

/** The readers by name. */
export const verdictReaders: Readonly<Record<Reads, (settings: ChainSettings) => VerdictReader>> = {
  calls: ethCallVerdicts,
  proofs: (settings) => new ProofVerdicts(settings).verdict,
};

/** How each of them learns what DstackKms says of itself. */
export const infoReaders: Readonly<Record<Reads, (settings: ChainSettings) => InfoReader>> = {
  calls: ethCallInfo,
  proofs: (settings) => {
    const proofs = new ProofVerdicts(settings);
    return (view) => proofs.describe(view);
  },
};
