import { dirname, resolve } from 'node:path';
import {
  type Call,
  callLines,
  describeCall,
  GovernanceError,
  type Proposal,
  proposalHash,
  type SafeState,
  safeTx,
  safeTypedData,
  simulateTransaction,
} from '@dstack-cloud/governance';
import { type Hex, isAddressEqual } from 'viem';
import { fromAll } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import { wholeNumber } from '../whole-number.ts';
import type { GovSession, GovView } from './connect-gov.ts';
import { pendingProposals } from './pending-proposals.ts';
import { saveProposal } from './proposals.ts';

/** Options of commands that may make a proposal. */
export type ProposeOptions = { readonly nonce?: string; readonly output?: string };

/**
 * Makes a Safe transaction of a call, tries it, signs it if the account is a signer, and puts it into a file and, when one is
 * named, into the transaction service.
 */
export async function makeProposal(
  context: Context,
  session: GovSession,
  view: GovView,
  safe: SafeState,
  { call, operation }: { call: Call; operation: 0 | 1 },
  options: ProposeOptions,
): Promise<Record<string, unknown>> {
  const { chainId } = view.governance;
  const service = session.service(safe.address);
  const nonce = await chooseNonce(context, session, view, safe, options);
  if (nonce < safe.nonce) {
    throw new GovernanceError('bad-input', `The Safe has used nonce ${nonce} already`, {
      ...{ expected: `${safe.nonce} or later`, found: String(nonce) },
    });
  }
  const tx = safeTx(call, nonce, operation);
  const unsigned: Proposal = { chainId, safe: safe.address, tx, signatures: [] };
  const hash = proposalHash(unsigned);
  await fromAll(context, session, (client) => simulateTransaction(client, view.governance, safe.address, tx));
  const words = describeCall({ ...call, operation }, view.known);
  context.print(`Safe transaction ${hash}, nonce ${nonce}`);
  const account = await session.findAccount();
  const signs = account !== undefined && safe.owners.some((owner) => isAddressEqual(owner, account.address));
  if (!signs && !(session.dryRun && account === undefined)) {
    context.warn(
      `${account === undefined ? 'No key was given' : `${account.address} does not sign for Safe ${safe.address}`}, so the proposal gets no signature. Its signers are ${safe.owners.join(', ')}`,
    );
  }
  const shown = {
    ...{ safe: safe.address, hash, nonce: Number(nonce), threshold: safe.threshold },
    ...{ calls: callLines(words), signatures: signs ? 1 : 0 },
  };
  if (session.dryRun) {
    context.print('It succeeds in a simulation; nothing was signed or written.');
    return { ...shown, signed: false };
  }
  const signatures: Hex[] = [];
  if (signs) signatures.push(await account.signTypedData(safeTypedData(chainId, safe.address, tx)));
  const [signature] = signatures;
  if (service !== undefined && account !== undefined && signature !== undefined) {
    await service.submit(unsigned, account.address, signature);
    context.print(`The transaction service at ${service.host} has it`);
  }
  const path = await saveProposal(
    context,
    { ...unsigned, signatures },
    words,
    options.output === undefined ? undefined : resolve(context.directory, options.output),
  );
  const count = `${signatures.length} of ${safe.threshold} signatures`;
  context.print(`${path}: ${count}${signs ? `, by ${account.address}` : ''}`);
  const enough = signatures.length >= safe.threshold;
  context.info(
    `Next: ${enough ? 'dstack-cloud gov submit' : 'pass it to the other signers: dstack-cloud gov approve'} ${path}`,
  );
  return { ...shown, signed: signs, file: path };
}

/** Nonces of the Safes that a command has given already, by address. */
const givenBy = new WeakMap<GovSession, Map<string, Set<bigint>>>();

/**
 * The first that no signer has used, unless one is given, and that this command has not. What a service makes up, or holds for
 * much later, keeps nobody waiting. Nor does a file, which may have been given up: it is named.
 */
async function chooseNonce(
  context: Context,
  session: GovSession,
  view: GovView,
  safe: SafeState,
  { nonce: text, output }: ProposeOptions,
): Promise<bigint> {
  const given = wholeNumber('--nonce', text);
  const folders = [
    context.directory,
    ...(output === undefined ? [] : [dirname(resolve(context.directory, output))]),
  ];
  const pending = (await pendingProposals(session, view, folders)).filter((one) =>
    isAddressEqual(one.safe.address, safe.address),
  );
  const isUsed = (nonce: bigint): boolean =>
    pending.some(({ proposal, isShared }) => isShared && proposal.tx.nonce === nonce);
  const all = givenBy.get(session) ?? new Map<string, Set<bigint>>();
  givenBy.set(session, all);
  const own = all.get(safe.address) ?? new Set();
  all.set(safe.address, own);
  let nonce = given === undefined ? safe.nonce : BigInt(given);
  while (own.has(nonce) || (given === undefined && isUsed(nonce))) nonce += 1n;
  own.add(nonce);
  const rivals = pending.filter(({ proposal }) => proposal.tx.nonce === nonce);
  if (given === undefined) {
    for (const { path, hash } of rivals)
      context.warn(
        `${path ?? `Safe transaction ${hash}`} has nonce ${nonce} too: only one of the two can be executed. To execute this one after it, pass --nonce ${nonce + 1n}`,
      );
  }
  return nonce;
}
