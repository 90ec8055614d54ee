import {
  callLines,
  GovernanceError,
  ownersWhoSigned,
  readApprovals,
  safeAbi,
  safeTypedData,
  simulateTransaction,
} from '@dstack-cloud/governance';
import { encodeFunctionData, isAddressEqual } from 'viem';
import { confirm } from '../ask.ts';
import { fromAll } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import { approveOffline } from '../gov/approve-offline.ts';
import { connectGov, type GovOptions } from '../gov/connect-gov.ts';
import { openProposal, saveProposal, wordsOf } from '../gov/proposals.ts';
import { sendCall } from '../gov/send-call.ts';

/** `gov approve`: shows what the bytes do, tries it on the chain as it is, and signs. */
export async function run(
  context: Context,
  [name = '']: readonly string[],
  options: GovOptions & { readonly onChain?: boolean; readonly offline?: boolean },
): Promise<undefined> {
  if (options.offline === true) return await approveOffline(context, name, options);
  const session = await connectGov(context, options);
  const view = await session.read();
  const open = await openProposal(context, session, view, name);
  const { proposal, hash, safe, path } = open;
  const words = wordsOf(open, view);
  for (const line of callLines(words)) context.print(line);
  context.print(`Safe transaction ${hash}, nonce ${proposal.tx.nonce}`);
  const before = await ownersWhoSigned(safe, hash, proposal.signatures);
  await fromAll(context, session, (client) =>
    simulateTransaction(client, view.governance, safe.address, proposal.tx),
  );
  const account = (await session.chain.signer()).account;
  if (!safe.owners.some((owner) => isAddressEqual(owner, account.address))) {
    throw new GovernanceError('not-allowed', `${account.address} does not sign for Safe ${safe.address}`, {
      ...{ expected: safe.owners.join(' or '), found: account.address },
      hint: 'Use the key of a signer',
    });
  }
  const approvers = await readApprovals(session.client, safe, hash);
  const signers = new Set([
    ...[...before.map(({ signer }) => signer), ...approvers].map((one) => one.toLowerCase()),
    account.address.toLowerCase(),
  ]);
  const count = `${signers.size} of ${safe.threshold} signatures`;
  const result = { hash, signer: account.address, signatures: signers.size, threshold: safe.threshold };
  if (options.onChain === true) {
    const data = encodeFunctionData({ abi: safeAbi, functionName: 'approveHash', args: [hash] });
    const call = { to: safe.address, value: 0n, data };
    const receipt = await sendCall(context, session, call, { what: `approve ${hash} on chain` });
    if (receipt !== undefined) context.print(`Approved on chain by ${account.address}: ${count}`);
    const transaction = receipt?.transactionHash ?? null;
    context.result({ ...result, signed: false, sent: receipt !== undefined, transaction });
    return undefined;
  }
  if (session.dryRun) {
    context.print(`Would sign it as ${account.address}: ${count}. Nothing was signed.`);
    context.result({ ...result, signed: false });
    return undefined;
  }
  await confirm(context, `Sign it as ${account.address}?`);
  const signature = await account.signTypedData(safeTypedData(proposal.chainId, safe.address, proposal.tx));
  // A signer that signs something else is found out here, not by the chain.
  await ownersWhoSigned(safe, hash, [signature]);
  await session.service(safe.address)?.confirm(hash, signature);
  if (path !== undefined) {
    await saveProposal(
      context,
      { ...proposal, signatures: [...proposal.signatures, signature] },
      words,
      path,
    );
  }
  context.print(`Signed by ${account.address}: ${count}`);
  if (signers.size >= safe.threshold) context.info(`Next: dstack-cloud gov submit ${name}`);
  context.result({ ...result, signed: true });
  return undefined;
}
