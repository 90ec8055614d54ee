import { safeAbi, timelockAbi } from '@dstack-cloud/governance';
import type { ChainSnapshot } from '@dstack-cloud/policy/following';
import { encodeFunctionData, type Hex, zeroAddress } from 'viem';
import type { ChainReader } from '../chain/chain-reader.ts';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { Source } from '../state/watch-state.ts';

const MIN_DELAY = encodeFunctionData({ abi: timelockAbi, functionName: 'getMinDelay' });
const THRESHOLD = encodeFunctionData({ abi: safeAbi, functionName: 'getThreshold' });
type Governor = { readonly address: Hex; readonly kind: 'timelock' | 'safe' };

/** Asked in one pass. */
const MAX_ASKED = 16;
/** The first word of a Safe's or a Timelock's answer. */
const WORD = /^0x[0-9a-f]{64}$/;

/**
 * Timelocks and Safes that rule what is followed and are not followed themselves: owners, guardians, and who has a role
 * in a Timelock.
 * @param asked whom this was asked about before: an account does not become a contract from one pass to the next
 */
export async function findGovernors(
  reader: ChainReader,
  view: ChainSnapshot,
  model: GovernanceModel,
  sources: Readonly<Record<string, Source>>,
  asked: Set<string>,
): Promise<Governor[]> {
  const apps = [...model.apps].filter(([address]) => sources[address]?.listed).map(([, app]) => app);
  const candidates = new Set(
    [
      ...[model.kms, ...apps].flatMap(({ owner, guardians }) => [owner, ...guardians]),
      ...[...model.timelocks.values()].flatMap(({ roles }) =>
        [...roles.values()].flatMap((role) => [...role]),
      ),
    ].filter((address) => address !== zeroAddress && !Object.hasOwn(sources, address) && !asked.has(address)),
  );
  const some = [...candidates].slice(0, MAX_ASKED) as Hex[];
  if (some.length === 0) return [];
  const answers = await reader.calls(
    view,
    view.finalized,
    some.flatMap((to) => [
      { to, data: MIN_DELAY },
      { to, data: THRESHOLD },
    ]),
  );
  return some.flatMap((address, index): Governor[] => {
    asked.add(address);
    const [delay, threshold] = answers.slice(2 * index, 2 * index + 2);
    if (WORD.test(delay ?? '')) return [{ address, kind: 'timelock' }];
    return WORD.test(threshold ?? '') ? [{ address, kind: 'safe' }] : [];
  });
}
