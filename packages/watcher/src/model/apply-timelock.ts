import type { Hex } from 'viem';
import type { GovernanceEvent } from '../events/governance-event.ts';
import { argument, seconds } from './apply-contract.ts';
import type { TimelockModel } from './model.ts';

/** Calls of one operation that are kept. */
const MAX_CALLS = 64;

export function applyTimelock(timelock: TimelockModel, event: GovernanceEvent): void {
  const { name, block, time, tx, sender } = event;
  const arg = (of: string): string => argument(event, of);
  const { operations, roles } = timelock;
  switch (name) {
    case 'CallScheduled': {
      const id = arg('id');
      const call = { target: arg('target') as Hex, value: arg('value'), data: arg('data') as Hex };
      const before = arg('index') === '0' ? undefined : operations.get(id);
      if (before) {
        if (before.calls.length < MAX_CALLS) before.calls.push(call);
        return;
      }
      const delay = seconds(arg('delay'));
      // One that was cancelled may be scheduled once more.
      operations.delete(id);
      operations.set(id, {
        id,
        calls: [call],
        predecessor: arg('predecessor'),
        delay,
        scheduled: { block, time, tx, sender },
        readyAt: time + delay,
        state: 'pending',
        ended: undefined,
      });
      return;
    }
    case 'CallExecuted':
    case 'Cancelled': {
      const operation = operations.get(arg('id'));
      if (!operation) return;
      operation.state = name === 'Cancelled' ? 'cancelled' : 'done';
      operation.ended = { time, tx };
      return;
    }
    case 'MinDelayChange':
      timelock.minDelay = seconds(arg('newDuration'));
      return;
    case 'RoleGranted': {
      const accounts = roles.get(arg('role')) ?? new Set();
      roles.set(arg('role'), accounts.add(arg('account')));
      return;
    }
    case 'RoleRevoked':
      roles.get(arg('role'))?.delete(arg('account'));
  }
}
