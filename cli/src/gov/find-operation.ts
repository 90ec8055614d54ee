import { readFileBounded } from '@dstack-cloud/app';
import {
  decodeOperation,
  GovernanceError,
  operationId,
  readProposal,
  type ScheduledOperation,
  type TimelockState,
} from '@dstack-cloud/governance';
import type { Hex } from 'viem';
import type { GovSession, GovView } from './connect-gov.ts';

const MAX_FILE = 1024 * 1024;

/** The operation with this id, or that which a proposal's file schedules; as the chain knows it. */
export async function findOperation(
  session: Pick<GovSession, 'path'>,
  { governance }: GovView,
  name: string,
): Promise<{ timelock: TimelockState; operation: ScheduledOperation }> {
  const id = /^0x[0-9a-fA-F]{64}$/.test(name)
    ? (name.toLowerCase() as Hex)
    : await idOfFile(session.path(name));
  for (const principal of governance.principals.values()) {
    if (principal.kind !== 'timelock') continue;
    const operation = principal.timelock.operations.find((one) => one.id === id);
    if (operation !== undefined) return { timelock: principal.timelock, operation };
  }
  throw new GovernanceError('not-found', `No Timelock of this domain has operation ${id}`, {
    hint: 'Is the proposal submitted? See dstack-cloud gov status',
  });
}

async function idOfFile(path: string): Promise<Hex> {
  const text = new TextDecoder().decode(await readFileBounded(path, MAX_FILE));
  const { to, data } = readProposal(text, path).tx;
  const scheduled = decodeOperation(to, data);
  if (scheduled !== undefined) return operationId(scheduled.operation);
  throw new GovernanceError('bad-input', `${path} schedules no operation`);
}
