/**
 * Thousands of states of the policy, each a set of storage slots as state proofs read them, put under the code of the real
 * contracts: what the EVM decides there is what the checks over these slots decide. A slot or an order that is wrong shows.
 */

import type { BootInfo } from '@dstack-cloud/attestation';
import { loadArtifact } from '@dstack-cloud/contracts';
import { toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { decodeFunctionResult, type Hex } from 'viem';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BootKind } from '../../policy.ts';
import { type ChainLab, deployContracts, type LabContracts, startChainLab } from '../../test/chain-lab.ts';
import { facts } from '../../test/facts.ts';
import { encodeDecisionCall } from '../contracts/contract-calls.ts';
import { slotBytes } from '../contracts/slots.ts';
import { appChecks, firstDenial, kmsChecks } from './contract-checks.ts';
import { bytesOf } from './test/compare.ts';

/** Questions in each of so many batches: 10,000 decisions. */
const [BATCHES, QUESTIONS] = [50, 200];

let lab: ChainLab;
let contracts: LabContracts;
beforeAll(async () => {
  lab = await startChainLab();
  contracts = await deployContracts(lab);
}, 60_000);
afterAll(() => lab?.stop());

type Case = { kind: BootKind; info: BootInfo; kms: Map<bigint, bigint>; app: Map<bigint, bigint> };

const word = (value: bigint): Hex => `0x${toHex(slotBytes(value))}`;
const state = (slots: ReadonlyMap<bigint, bigint>): Record<string, Hex> =>
  Object.fromEntries([...slots].map(([slot, value]) => [word(slot), word(value)]));

test('the EVM decides as the checks do, whatever the slots hold', async () => {
  const time = Number((await lab.rpc<{ timestamp: Hex }>('eth_getBlockByNumber', 'latest', false)).timestamp);
  const upToDate = fc.constantFrom('UpToDate', 'UpToDate', 'UpToDate', 'OutOfDate', '');
  const advisories = fc.constantFrom<string[][]>(
    [],
    ['INTEL-SA-00837'],
    ['INTEL-SA-00001', 'INTEL-SA-00837'],
  );
  /** Values by what the slot is for: mostly such that the next check is reached. */
  const value = (reason: string): fc.Arbitrary<bigint> => {
    const end = BigInt(time);
    if (/expired/.test(reason)) return fc.constantFrom(0n, 0n, 0n, 0n, 1n, end, end + 1_000n, 2n ** 64n - 1n);
    // Beside the pause lies the epoch, beside the flag of the devices another flag: they must not matter.
    if (/paused/.test(reason))
      return fc.constantFrom(0n, 7n, 255n, 1n << 64n, (1n << 64n) + 9n, 2n ** 64n - 1n);
    if (/Device not/.test(reason)) return fc.constantFrom(0n, 1n, 0x100n, 0x101n);
    if (/not (allowed|registered)/i.test(reason)) return fc.constantFrom(1n, 1n, 1n, 1n, 1n, 1n, 0n);
    return fc.constantFrom(0n, 0n, 0n, 0n, 1n);
  };
  const caseOf = fc
    .record({
      kind: fc.constantFrom<BootKind>('app', 'app', 'kms'),
      tcbStatus: upToDate,
      advisoryIds: advisories,
    })
    .chain(({ kind, ...changes }) => {
      const info = facts({ ...changes, appId: bytesOf(contracts.app) });
      const question = { kind, info, time };
      const filled = (checks: ReturnType<typeof kmsChecks>): fc.Arbitrary<Map<bigint, bigint>> =>
        fc
          .tuple(
            ...checks.flatMap(({ reason, slots }) =>
              slots.map((slot) => fc.tuple(fc.constant(slot), value(reason))),
            ),
          )
          .map((entries) => new Map(entries as [bigint, bigint][]));
      return fc
        .tuple(filled(kmsChecks('dstack-kms-3', question)), filled(appChecks('dstack-app-3', question)))
        .map(([kms, app]): Case => ({ kind, info, kms, app }));
    });

  const seen = new Map<string, number>();
  const { abi } = loadArtifact('DstackKms');
  for (let batch = 0; batch < BATCHES; batch += 1) {
    const cases = fc.sample(caseOf, QUESTIONS);
    const calls = cases.map(({ kind, info, kms, app }, id) => ({
      ...{ jsonrpc: '2.0', id, method: 'eth_call' },
      params: [
        { to: contracts.kms, data: encodeDecisionCall(kind, info) },
        'latest',
        {
          [contracts.kms]: { stateDiff: state(kms) },
          [contracts.app]: { stateDiff: state(app) },
        },
      ],
    }));
    const response = await fetch(lab.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(calls),
    });
    const answers = (await response.json()) as { id: number; result: Hex }[];
    expect(answers).toHaveLength(QUESTIONS);
    for (const { id, result } of answers) {
      const { kind, info, kms, app } = cases[id]!;
      const functionName = kind === 'app' ? 'isAppAllowed' : 'isKmsAllowed';
      const [allowed, reason] = decodeFunctionResult({ abi, functionName, data: result }) as [
        boolean,
        string,
      ];
      const question = { kind, info, time };
      const denial =
        firstDenial(kmsChecks('dstack-kms-3', question), (slot) => kms.get(slot) ?? 0n) ??
        (kind === 'app'
          ? firstDenial(appChecks('dstack-app-3', question), (slot) => app.get(slot) ?? 0n)
          : undefined) ??
        '';
      expect({ kind, allowed, reason }).toEqual({ kind, allowed: denial === '', reason: denial });
      seen.set(`${kind}: ${reason}`, (seen.get(`${kind}: ${reason}`) ?? 0) + 1);
    }
  }
  // Every reason of both, and a permission of both, was met often.
  const question = { kind: 'app', info: facts(), time } as const;
  const reasons = [
    ...[...kmsChecks('dstack-kms-3', question), ...appChecks('dstack-app-3', question)].map(
      (one) => `app: ${one.reason}`,
    ),
    ...kmsChecks('dstack-kms-3', { ...question, kind: 'kms' }).map((one) => `kms: ${one.reason}`),
    ...['app: ', 'kms: '],
  ];
  for (const reason of reasons) {
    expect(seen.get(reason) ?? 0, reason).toBeGreaterThan(10);
  }
}, 120_000);
