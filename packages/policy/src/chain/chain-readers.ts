import type { ChainSettings, Reads } from './chain-options.ts';
import { ethCallInfo, type InfoReader } from './contract-info.ts';
import { ethCallVerdicts } from './eth-call-verdicts.ts';
import { ProofVerdicts } from './proof/proof-verdicts.ts';
import type { VerdictReader } from './verdict-reader.ts';

/** What is learned from the contracts: verdicts, and what DstackKms says of itself. */
type ChainReaders = { readonly readVerdict: VerdictReader; readonly readInfo: InfoReader };

/** The ways to learn it, by name. */
export const chainReaders: Readonly<Record<Reads, (settings: ChainSettings) => ChainReaders>> = {
  calls: (settings) => ({ readVerdict: ethCallVerdicts(settings), readInfo: ethCallInfo(settings) }),
  proofs: (settings) => {
    const proofs = new ProofVerdicts(settings);
    return { readVerdict: proofs.verdict, readInfo: (view) => proofs.describe(view) };
  },
};
