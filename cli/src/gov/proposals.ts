import { join, resolve } from 'node:path';
import { readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { isThere, withLock } from '@dstack-cloud/files';
import {
  type CallInWords,
  callLines,
  decodeOperation,
  describeCall,
  GovernanceError,
  mergeProposals,
  type Proposal,
  proposalHash,
  readProposal,
  type SafeState,
  writeProposal,
} from '@dstack-cloud/governance';
import { type Address, type Hex, isAddressEqual } from 'viem';
import type { Context } from '../context.ts';
import { lockFolder } from '../project/project-lock.ts';
import { safeOf } from './actions.ts';
import type { GovSession, GovView } from './connect-gov.ts';

const MAX_FILE = 1024 * 1024;

/** A proposal with where it came from, and its Safe now. */
export type OpenProposal = {
  readonly proposal: Proposal;
  readonly hash: Hex;
  readonly safe: SafeState;
  /** Undefined when the service has it. */
  readonly path: string | undefined;
};

/** The proposal of a file, or that of the transaction service with this hash; one that can still be executed. */
export async function openProposal(
  context: Context,
  session: GovSession,
  view: GovView,
  name: string,
): Promise<OpenProposal> {
  const safe = safeOf(view);
  const isHash = /^0x[0-9a-fA-F]{64}$/.test(name);
  const service = session.service(safe.address);
  if (isHash && service === undefined) {
    throw new GovernanceError(
      'bad-input',
      'A proposal is named by its hash only with a transaction service',
      {
        hint: 'Name its file, or pass --service URL',
      },
    );
  }
  const { path, proposal } =
    isHash && service !== undefined
      ? { path: undefined, proposal: await service.find(name.toLowerCase() as Hex) }
      : await readProposalFile(context, name);
  requireSafe(proposal, view.governance.chainId, safe.address);
  const { tx } = proposal;
  const hash = proposalHash(proposal);
  if (tx.nonce < safe.nonce) {
    throw new GovernanceError(
      'not-ready',
      `The Safe has used nonce ${tx.nonce} already: this proposal is over`,
      {
        ...{ expected: `nonce ${safe.nonce} or later`, found: `nonce ${tx.nonce}` },
        hint: 'See dstack-cloud gov status whether it was executed; otherwise propose it again',
      },
    );
  }
  return { proposal, hash, safe, path };
}

/** The proposal of a file, which is looked for in the folder of -C. */
export async function readProposalFile(
  { directory }: Pick<Context, 'directory'>,
  name: string,
): Promise<{ path: string; proposal: Proposal }> {
  const path = resolve(directory, name);
  return { path, proposal: await readFileAt(path) };
}

async function readFileAt(path: string): Promise<Proposal> {
  return readProposal(new TextDecoder().decode(await readFileBounded(path, MAX_FILE)), path);
}

/** Signatures of one Safe on one chain are worth nothing elsewhere. @throws GovernanceError `bad-input` */
export function requireSafe({ chainId, safe }: Proposal, expectedChain: number, expected: Address): void {
  if (chainId !== expectedChain) {
    throw new GovernanceError('bad-input', 'The proposal is of another chain', {
      ...{ expected: `chain ${expectedChain}`, found: `chain ${chainId}` },
    });
  }
  if (!isAddressEqual(safe, expected)) {
    throw new GovernanceError('bad-input', 'The proposal is of another Safe than the one that governs here', {
      ...{ expected, found: safe },
    });
  }
}

/** The transaction in words: from its bytes, whatever else the file says. */
export function wordsOf({ proposal }: Pick<OpenProposal, 'proposal'>, { known }: GovView): CallInWords {
  const { to, value, data, operation } = proposal.tx;
  return describeCall({ to, value, data, operation }, known);
}

/**
 * Puts a proposal into its file, beside the signatures that others may have added meanwhile.
 * @returns the path
 */
export async function saveProposal(
  context: Context,
  proposal: Proposal,
  words: CallInWords,
  path: string = join(
    context.directory,
    `proposal-${proposal.tx.nonce}-${proposalHash(proposal).slice(2, 10)}.json`,
  ),
): Promise<string> {
  const write = async (): Promise<void> => {
    const before = isThere(path) ? await readBefore(path) : undefined;
    if (before !== undefined && proposalHash(before) !== proposalHash(proposal)) {
      throw new GovernanceError('bad-input', `${path} has another proposal, which stays`, {
        ...{ expected: `Safe transaction ${proposalHash(proposal)}`, found: proposalHash(before) },
        hint: 'Name another file with -o, or move that one away',
      });
    }
    const merged = before === undefined ? proposal : mergeProposals(before, proposal);
    await writeFileAtomic(path, writeProposal(merged, callLines(words)), { mode: 0o644 });
  };
  const folder = lockFolder(context);
  const options = { waitMs: 10_000, what: `The proposal ${path}`, signal: context.signal };
  if (folder === undefined) await write();
  else await withLock(folder, `proposal-${proposalHash(proposal).slice(2, 34)}`, options, write);
  return path;
}

/** What is at the place of a proposal already. @throws GovernanceError `bad-input` for what is no proposal */
async function readBefore(path: string): Promise<Proposal> {
  try {
    return await readFileAt(path);
  } catch (cause) {
    throw new GovernanceError('bad-input', `${path} exists and is no whole proposal: it stays`, {
      ...{ found: cause instanceof Error ? cause.message : String(cause), cause },
      hint: 'Name another file with -o, or move that one away',
    });
  }
}

/** The operation that a proposal schedules, when it does. */
export function scheduledBy({
  proposal,
}: Pick<OpenProposal, 'proposal'>): ReturnType<typeof decodeOperation> {
  const { to, data, operation } = proposal.tx;
  return operation === 0 ? decodeOperation(to, data) : undefined;
}
