import { type Address, zeroAddress } from 'viem';
import { describe, expect, test } from 'vitest';
import type { ContractState } from '../state/read-contract-state.ts';
import type { Governance, Principal } from '../state/read-governance.ts';
import { routeOf } from './route.ts';

const at = (digit: string): Address => `0x${digit.repeat(40)}`;
const call = (to: Address) => ({ to, value: 0n, data: '0x12345678' }) as const;
const contract = (kind: 'kms' | 'app', address: Address, owner: Address) =>
  ({ kind, address, owner }) as unknown as ContractState;
const safe = { kind: 'safe', address: at('3'), safe: { address: at('3') } } as unknown as Principal;
const account: Principal = { kind: 'account', address: at('4') };

function governance(
  owner: Principal,
  appOwner: Principal,
  proposer: readonly Address[] = [at('3')],
): Governance {
  const roles = { proposer, canceller: proposer, executor: [zeroAddress], admin: [] };
  const timelock = {
    kind: 'timelock',
    address: at('2'),
    timelock: { address: at('2'), roles },
  } as unknown as Principal;
  const principals = [owner.address === at('2') ? timelock : owner, appOwner, safe, account, timelock];
  return {
    ...{ kms: contract('kms', at('1'), owner.address), apps: [contract('app', at('5'), appOwner.address)] },
    principals: new Map(principals.map((one) => [one.address, one])),
  } as unknown as Governance;
}
const owned: Principal = { kind: 'contract', address: at('2') };

describe('how a call comes to be made', () => {
  test('by the account, the Safe, or through the Timelock and its proposer', () => {
    expect(routeOf(governance(account, account), [call(at('1'))])).toMatchObject({ accounts: [at('4')] });
    expect(routeOf(governance(safe, account), [call(at('1'))])).toMatchObject({
      authority: at('3'),
      timelock: undefined,
    });
    const through = routeOf(governance(owned, account), [call(at('1'))]);
    expect(through).toMatchObject({
      authority: at('2'),
      timelock: { address: at('2') },
      safe: { address: at('3') },
    });
    const alone = routeOf(governance(owned, account, [at('4')]), [call(at('1'))]);
    expect(alone).toMatchObject({ safe: undefined, accounts: [at('4')] });
  });

  test('a Safe and a Timelock change themselves', () => {
    expect(routeOf(governance(owned, account), [call(at('3'))])).toMatchObject({
      authority: at('3'),
      timelock: undefined,
    });
    expect(routeOf(governance(owned, account), [call(at('2'))]).timelock).toBeDefined();
  });

  test.each([
    ['nothing', [], 'nothing to propose'],
    ['a stranger', [call(at('8'))], 'no contract of this domain'],
    ['two owners', [call(at('1')), call(at('5'))], 'different owners'],
  ])('%s is refused', (_, calls, message) => {
    expect(() => routeOf(governance(owned, account), calls)).toThrow(message);
  });

  test('an owner or a proposer that is an unknown contract cannot be helped', () => {
    const unknown: Principal = { kind: 'contract', address: at('9') };
    expect(() => routeOf(governance(unknown, account), [call(at('1'))])).toThrow(
      'neither a Safe nor a Timelock',
    );
    expect(() => routeOf(governance(owned, account, [at('9')]), [call(at('1'))])).toThrow(
      'is proposer of Timelock',
    );
  });
});
