import type { ChainSettings, Reads } from './chain-options.ts';
import { ethCallInfo, type InfoReader } from './contract-info.ts';
import type { DecisionReader } from './decision-reader.ts';
import { ethCallDecisions } from './eth-call-decisions.ts';
import { ProofDecisions } from './proof/proof-decisions.ts';

/** What is learned from the contracts: decisions, and what DstackKms says of itself. */
type ChainReaders = { readonly readDecision: DecisionReader; readonly readInfo: InfoReader };

/** The ways to learn it, by name. */
export const chainReaders: Readonly<Record<Reads, (settings: ChainSettings) => ChainReaders>> = {
  calls: (settings) => ({ readDecision: ethCallDecisions(settings), readInfo: ethCallInfo(settings) }),
  proofs: (settings) => {
    const proofs = new ProofDecisions(settings);
    return { readDecision: proofs.readDecision, readInfo: (snapshot) => proofs.describe(snapshot) };
  },
};
