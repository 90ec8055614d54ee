import { addressValue, findSigner } from '@dstack-cloud/contracts/tasks';
import {
  type ContractKind,
  callLines,
  describeCall,
  GovernanceError,
  type GovernanceFile,
  type KnownContracts,
  ownersWhoSigned,
  proposalHash,
  safeTypedData,
} from '@dstack-cloud/governance';
import { isAddressEqual } from 'viem';
import { confirm } from '../ask.ts';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';
import { type GovOptions, openGovernanceFile } from './connect-gov.ts';
import { readProposalFile, requireSafe, saveProposal } from './proposals.ts';

/**
 * Signs the proposal of a file on a machine without a network. What the chain would say, the governance file says instead: which
 * chain, which Safe, who signs. The commands that follow read the chain, so nothing is executed that was only signed here.
 */
export async function approveOffline(
  context: Context,
  name: string,
  options: GovOptions & { readonly onChain?: boolean },
): Promise<undefined> {
  const { env } = context;
  if (options.onChain === true || options.service !== undefined) {
    throw new CliError('bad_argument', '--offline signs a file, and talks to nobody', {
      found: options.onChain === true ? '--on-chain' : '--service',
    });
  }
  const { path: filePath, file } = await openGovernanceFile(context, options);
  if (file?.safe === undefined || file.signers === undefined) {
    throw new CliError('bad_config', `${filePath} names no Safe with its signers`, {
      hint: 'Copy the governance.json that gov deploy wrote to this machine: it says which Safe governs',
    });
  }
  const safe = { address: file.safe, owners: file.signers };
  const { path, proposal } = await readProposalFile(context, name);
  requireSafe(proposal, file.chainId, safe.address);
  const { chainId, tx } = proposal;
  const hash = proposalHash(proposal);
  const { to, value, data, operation } = tx;
  const words = describeCall({ to, value, data, operation }, contractsOf(file, options));
  for (const line of callLines(words)) context.print(line);
  context.print(`Safe transaction ${hash}, nonce ${tx.nonce}, of Safe ${safe.address} on chain ${chainId}`);
  context.warn(
    `Nothing is read from the chain: contracts and signers are those of ${filePath}, and whether the call succeeds and the nonce is free is not tried`,
  );
  const before = await ownersWhoSigned(safe, hash, proposal.signatures);
  const account = await findSigner({ ...options, env, warn: context.warn });
  if (!safe.owners.some((owner) => isAddressEqual(owner, account.address))) {
    throw new GovernanceError('not-allowed', `${account.address} does not sign for Safe ${safe.address}`, {
      ...{ expected: safe.owners.join(' or '), found: account.address },
      hint: `Use the key of a signer. Where signers were replaced, correct them in ${filePath}`,
    });
  }
  const signers = new Set([...before.map(({ signer }) => signer), account.address]);
  const threshold = file.threshold ?? null;
  const count = `${signers.size}${threshold === null ? '' : ` of ${threshold}`} signatures`;
  const result = { hash, signer: account.address, signatures: signers.size, threshold };
  if (options.dryRun === true) {
    context.print(`Would sign it as ${account.address}: ${count}. Nothing was signed.`);
    context.result({ ...result, signed: false });
    return undefined;
  }
  await confirm(context, `Sign it as ${account.address}?`);
  const signature = await account.signTypedData(safeTypedData(chainId, safe.address, tx));
  // A signer that signs something else is found out here, not by the chain.
  await ownersWhoSigned(safe, hash, [signature]);
  await saveProposal(context, { ...proposal, signatures: [...proposal.signatures, signature] }, words, path);
  context.print(`Signed by ${account.address}: ${count}`);
  context.info(`Next: take ${path} back to a machine with an endpoint: dstack-cloud gov submit ${name}`);
  context.result({ ...result, signed: true });
  return undefined;
}

/** The contracts that a file and the command line name. */
function contractsOf(file: GovernanceFile, { kms, app }: GovOptions): KnownContracts {
  const { timelock, safe, multiSend } = file;
  const registry = kms === undefined ? file.kms : addressValue('--kms', kms);
  const apps = [...file.apps, ...(app ?? []).map((one) => addressValue('--app', one))];
  const known = new Map<string, { kind: ContractKind; name: string }>();
  const add = (address: string | undefined, kind: ContractKind, name: string): void => {
    if (address !== undefined) known.set(address.toLowerCase(), { kind, name });
  };
  for (const one of apps) add(one, 'app', `app ${one}`);
  add(registry, 'kms', 'DstackKms');
  add(timelock, 'timelock', `Timelock ${timelock}`);
  add(safe, 'safe', `Safe ${safe}`);
  add(multiSend, 'multi-send', 'the batch contract of Safe');
  return known;
}
