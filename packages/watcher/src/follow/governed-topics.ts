import { type AbiEvent, type Hex, toEventSelector } from 'viem';
import { POLICIES, REGISTERED } from '../alerts/contract-rules.ts';
import type { TopicFilter } from '../chain/read-logs.ts';
import { ABIS } from '../events/decode-event.ts';
import type { SourceKind } from '../events/governance-event.ts';

/** What anybody can make a contract of ours say, as often as a block has room for. */
const FREE = new Set(['AppRegistered', 'AppDeployedViaFactory', 'SafeReceived']);

/** Matches the events of a contract that only those can cause who govern it. */
export function governedTopics(kind: SourceKind): TopicFilter[] {
  const events = ABIS[kind].flatMap((abi) => abi.filter((item): item is AbiEvent => item.type === 'event'));
  const selectors = (isWanted: (name: string) => boolean): Hex[] => [
    ...new Set(events.filter(({ name }) => isWanted(name)).map((event) => toEventSelector(event))),
  ];
  const changed = selectors((name) => name === 'PolicyChanged');
  const policies = [...POLICIES].filter((label) => label !== REGISTERED) as Hex[];
  return [
    [selectors((name) => !FREE.has(name) && name !== 'PolicyChanged')],
    // PolicyChanged(actor, policy, value): its policy is the third topic.
    ...(changed.length === 0 ? [] : [[changed, null, policies]]),
  ];
}
