import type { Block, ChainSnapshot } from '@dstack-cloud/policy/following';
import { encodeFunctionData, type Hex, parseAbi } from 'viem';
import type { Alert } from '../alerts/alert.ts';
import type { ChainReader } from '../chain/chain-reader.ts';
import { WatcherError } from '../errors.ts';
import type { GovernanceEvent, SourceKind } from '../events/governance-event.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { Source } from '../state/watch-state.ts';
import { changesLeftOut } from './changes-left-out.ts';

const POLICY_EPOCH = encodeFunctionData({ abi: parseAbi(['function policyEpoch() view returns (uint64)']) });
/** Contracts that are asked in one pass, the KMS always among them. */
export const MAX_ASKED = 50;

type Known = {
  readonly block: Block;
  readonly addresses: readonly Hex[];
  readonly sources: Readonly<Record<string, Source>>;
  readonly model: GovernanceModel;
  /** Events that are not in the model yet; those too that will be left out of it. */
  readonly added: readonly GovernanceEvent[];
};

/**
 * `policyEpoch()` grows with every PolicyChanged and with nothing else, so a contract whose epoch grew by more than its
 * events say had events that the endpoints left out.
 * @throws WatcherError `events-missing` for the KMS: what is not known to be whole is not kept
 */
export async function checkEpochs(
  reader: ChainReader,
  view: ChainSnapshot,
  { block, addresses, sources, model, added }: Known,
): Promise<{ readonly offsets: Map<string, number>; readonly alerts: Alert[]; readonly verified: boolean }> {
  const ofKind = (wanted: SourceKind): Hex[] =>
    addresses.filter((address) => sources[address]!.listed && sources[address]!.kind === wanted);
  const kms = ofKind('kms');
  const apps = inTurn(ofKind('app'), block);
  const asked = [...kms, ...apps].slice(0, MAX_ASKED);
  const answers = await reader.calls(
    view,
    block,
    asked.map((to) => ({ to, data: POLICY_EPOCH })),
  );
  // Those that are not asked are compared with what they counted before another time.
  const offsets = new Map<string, number>(
    apps.slice(MAX_ASKED - kms.length).flatMap((address) => {
      const { epochOffset } = sources[address]!;
      return epochOffset === undefined ? [] : [[address, epochOffset] as const];
    }),
  );
  const alerts: Alert[] = [];
  for (const [index, address] of asked.entries()) {
    const answer = answers[index];
    // The 0.6 line has no epoch; its events are as complete as the endpoints are honest.
    if (answer === undefined || !/^0x0{48}[0-9a-f]{16}$/.test(answer)) continue;
    const epoch = Number(BigInt(answer));
    const seen =
      model.policyChanges(address) +
      changesLeftOut(sources[address]!) +
      added.filter((event) => event.address === address && event.name === 'PolicyChanged').length;
    const { epochOffset = epoch - seen, kind } = sources[address]!;
    offsets.set(address, epoch - seen);
    if (epoch === seen + epochOffset) continue;
    const found = `${seen + epochOffset}, after ${seen} events`;
    const what = `${kind === 'kms' ? 'DstackKms' : `App ${address}`} counts more changes than its events tell`;
    if (kind === 'kms')
      throw new WatcherError('events-missing', what, {
        expected: `policyEpoch ${epoch} at block ${block.number}`,
        found,
        hint: 'An endpoint leaves out events: name other or more ones in rpc_urls',
      });
    alerts.push({
      id: `${address}/${epoch}/events-missing`,
      rule: 'events-missing',
      severity: 'critical',
      text: `${what}: its epoch is ${epoch}, and its events make ${found}`,
      time: block.timestamp,
      contract: address,
      block: Number(block.number),
    });
  }
  return { offsets, alerts, verified: kms.length > 0 };
}

/** From another one on in each block, which nobody chooses: of more than are asked, none is left out for long. */
function inTurn(addresses: readonly Hex[], { hash }: Block): Hex[] {
  if (addresses.length === 0) return [];
  const first = Number(BigInt(hash) % BigInt(addresses.length));
  return [...addresses.slice(first), ...addresses.slice(0, first)];
}
