import {
  type ContractState,
  callLines,
  describeCall,
  durationText,
  type Governance,
  GovernanceError,
  type Principal,
  type ScheduledOperation,
  timeText,
} from '@dstack-cloud/governance';
import type { Address } from 'viem';
import type { Context } from '../context.ts';
import { connectGov, type GovOptions, type GovSession, type GovView } from '../gov/connect-gov.ts';
import { overProposals } from '../gov/over-proposals.ts';
import { pendingProposals } from '../gov/pending-proposals.ts';
import { wordsOf } from '../gov/proposals.ts';

/** Proposals that are over and shown: there is one more with each that is executed. */
const MAX_OVER = 10;

/** `gov status`: who may do what and when it takes effect, and what is under way. */
export async function run(context: Context, _: readonly string[], options: GovOptions): Promise<undefined> {
  const session = await connectGov(context, options);
  const view = await session.read();
  const { governance, known } = view;
  const { block, kms, apps } = governance;
  context.print(`Chain ${governance.chainId}, block ${block.number} of ${timeText(block.timestamp)}`);
  for (const contract of [kms, ...apps])
    for (const line of contractLines(contract, governance)) context.print(line);
  const operations = timelocks(governance).flatMap(({ operations: all }) => all);
  const open = operations.filter(({ state }) => state !== 'done' && state !== 'cancelled');
  context.print(open.length === 0 ? 'Nothing is scheduled' : `Scheduled: ${open.length}`);
  for (const operation of open) {
    context.print(`  operation ${operation.id}: ${stateText(operation, block.timestamp)}`);
    for (const call of operation.calls) {
      for (const line of callLines(describeCall(call, known), '    ')) context.print(line);
    }
  }
  const { proposals, problem } = await proposalsInWords(context, session, view);
  if (proposals.length > 0) context.print(`Proposals: ${proposals.length}`);
  for (const { hash, nonce, signatures, threshold, file, lines } of proposals) {
    const where = file === null ? 'at the transaction service' : `in ${file}`;
    context.print(`  ${hash}, nonce ${nonce}: ${signatures} of ${threshold} signatures, ${where}`);
    for (const line of lines) context.print(`    ${line}`);
  }
  const { over, filesLeftOut } = await overProposals(session, view);
  if (over.length > 0) context.print(`Files of proposals that are over: ${over.length}`);
  for (const { path, nonce } of over.slice(0, MAX_OVER))
    context.print(`  ${path}: executed, or can never be executed: nonce ${nonce} is used`);
  if (over.length > MAX_OVER) context.print(`  and ${over.length - MAX_OVER} more, of earlier nonces`);
  if (filesLeftOut > 0)
    context.warn(
      `${filesLeftOut} JSON files of the folder were not looked at: proposals among them are not shown. Move what is over away`,
    );
  context.result({
    ...{ chain_id: governance.chainId, block: Number(block.number), timestamp: Number(block.timestamp) },
    contracts: [kms, ...apps].map((contract) => ({
      ...{ kind: contract.kind, address: contract.address, owner: contract.owner },
      ...{
        guardians: contract.guardians,
        implementation: contract.implementation,
        paused: contract.paused ?? null,
      },
      who: contractLines(contract, governance).slice(1),
    })),
    operations: operations.map((operation) => ({
      ...{ id: operation.id, state: operation.state, delay_seconds: Number(operation.delay) },
      ready_at: operation.readyAt === undefined ? null : Number(operation.readyAt),
      expires_at: operation.expiresAt === undefined ? null : Number(operation.expiresAt),
      calls: operation.calls.flatMap((call) => callLines(describeCall(call, known))),
    })),
    proposals: proposals.map(({ lines, nonce, ...rest }) => ({
      ...rest,
      nonce: Number(nonce),
      calls: lines,
    })),
    proposals_problem: problem ?? null,
    proposals_over: over
      .slice(0, MAX_OVER)
      .map(({ path, hash, nonce }) => ({ file: path, hash, nonce: Number(nonce) })),
    files_left_out: filesLeftOut,
  });
  return undefined;
}

function timelocks({ principals }: Governance) {
  return [...principals.values()].flatMap((one) => (one.kind === 'timelock' ? [one.timelock] : []));
}

/** Who may do what to a contract, in sentences. */
function contractLines(
  { kind, address, owner, guardians, paused }: ContractState,
  governance: Governance,
): string[] {
  const principal = governance.principals.get(owner.toLowerCase());
  const lines = [
    `${kind === 'kms' ? 'DstackKms' : 'App'} ${address}${paused === true ? ' (PAUSED: allows nothing)' : ''}`,
  ];
  if (principal?.kind === 'timelock') {
    const { minDelay, roles, isOpen } = principal.timelock;
    const who = (list: readonly Address[]): string =>
      list.map((one) => nameOf(governance, one)).join(', or ') || 'nobody';
    lines.push(
      `  allow, upgrade, name guardians: ${who(roles.proposer)}; takes effect ${durationText(minDelay)} after it is scheduled, or later`,
      `  execute when the delay is over: ${isOpen ? 'anybody' : who(roles.executor)}`,
      `  cancel before that: ${who(roles.canceller)}; takes effect at once`,
    );
    for (const one of roles.proposer) {
      if (governance.principals.get(one.toLowerCase())?.kind !== 'safe') continue;
      lines.push(`  replace signers: ${nameOf(governance, one)}; takes effect at once`);
    }
  } else lines.push(`  everything: ${nameOf(governance, owner)}; takes effect at once`);
  lines.push(
    `  revoke: ${guardians.length === 0 ? 'no guardian is named, so that it waits as an addition does' : `guardian ${guardians.join(' or ')}; takes effect at once`}`,
  );
  return lines;
}

function nameOf({ principals }: Governance, address: Address): string {
  const principal: Principal | undefined = principals.get(address.toLowerCase());
  if (principal?.kind === 'safe') {
    return `${principal.safe.threshold} of ${principal.safe.owners.length} signers of Safe ${address}`;
  }
  return principal?.kind === 'account' ? `the account ${address}` : `the contract ${address}`;
}

function stateText({ state, readyAt, expiresAt }: ScheduledOperation, now: bigint): string {
  if (state === 'waiting') {
    return `can be executed in ${durationText((readyAt ?? now) - now)}, from ${timeText(readyAt ?? now)}`;
  }
  if (state === 'expired') return `expired at ${timeText(expiresAt ?? now)}`;
  return `can be executed${expiresAt === undefined ? '' : ` until ${timeText(expiresAt)}`}`;
}

/** What waits for signatures, in words. A service that fails hides nothing of the chain and of the files. */
async function proposalsInWords(context: Context, session: GovSession, view: GovView) {
  const read = async (from: Parameters<typeof pendingProposals>[0]) =>
    (await pendingProposals(from, view)).map(({ proposal, hash, safe, signers, path, hasRival }) => {
      const lines = callLines(wordsOf({ proposal }, view));
      if (hasRival)
        lines.push('Warning: another proposal has the same nonce: one of the two can be executed');
      const { nonce } = proposal.tx;
      const { threshold } = safe;
      return { hash, nonce, signatures: signers.length, threshold, file: path ?? null, lines };
    });
  try {
    return { proposals: await read(session), problem: undefined };
  } catch (error) {
    if (!(error instanceof GovernanceError) || error.code === 'chain-unreachable') throw error;
    context.warn(`Proposals at the transaction service are not shown: ${error.message}`);
    return { proposals: await read({ ...session, service: () => undefined }), problem: error.message };
  }
}
