import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import type { VerifierPolicy } from '../policy/appraise.ts';
import { SEED_A, verifyForged } from './forged.ts';
import { mockKeys } from './mock-keys.ts';
import { sealTdx, setTd, type TdxDraft, tdxDraft } from './tdx-forge.ts';

const keys = mockKeys(SEED_A);
const DAY = 86_400;
const ago = (draft: TdxDraft, days: number): string =>
  new Date((draft.now - days * DAY) * 1000).toISOString();
const QE_LATE = (d: TdxDraft): void => {
  d.qeReport[258] = 3;
  d.qeIdentity.tcbLevels[1].tcbDate = ago(d, 90);
  d.tcbInfo.tcbLevels[0].tcbDate = ago(d, 1);
};
const MODULE_LATE = (d: TdxDraft): void => {
  setTd(d, 'svn', Uint8Array.of(3, 1, 6));
  d.tcbInfo.tdxModuleIdentities[1].tcbLevels[1].tcbDate = ago(d, 90);
  d.tcbInfo.tcbLevels[0].tcbDate = ago(d, 1);
};
const PLATFORM_LATE = (d: TdxDraft): void => {
  d.tcbInfo.tcbLevels[0].tcbStatus = 'OutOfDate';
  d.tcbInfo.tcbLevels[0].tcbDate = ago(d, 90);
};
const NEVER = (): void => undefined;

describeWithFixtures('local policy on forged TDX evidence', 'mock-evidence/expected.json', () => {
  it.each<[string, (draft: TdxDraft) => void, VerifierPolicy, boolean]>([
    ['platform 90 days late, 100 days of grace', PLATFORM_LATE, { gracePeriodSeconds: 100 * DAY }, true],
    ['platform 90 days late, 80 days of grace', PLATFORM_LATE, { gracePeriodSeconds: 80 * DAY }, false],
    ['quoting enclave 90 days late, 80 days of grace', QE_LATE, { gracePeriodSeconds: 80 * DAY }, false],
    ['quoting enclave 90 days late, 100 days of grace', QE_LATE, { gracePeriodSeconds: 100 * DAY }, true],
    ['module 90 days late, 80 days of grace', MODULE_LATE, { gracePeriodSeconds: 80 * DAY }, false],
    ['module 90 days late, 100 days of grace', MODULE_LATE, { gracePeriodSeconds: 100 * DAY }, true],
    ['late, no policy', QE_LATE, {}, false],
    ['late, accepted', QE_LATE, { acceptedStatuses: ['UpToDate', 'OutOfDate'] }, true],
    ['evaluation data number 17 of 17', NEVER, { minimumTcbEvaluationDataNumber: 17 }, true],
    ['evaluation data number 17 of 18', NEVER, { minimumTcbEvaluationDataNumber: 18 }, false],
    [
      'QE identity of evaluation data number 16 of 17',
      (d) => {
        d.qeIdentity.tcbEvaluationDataNumber = 16;
      },
      { minimumTcbEvaluationDataNumber: 17 },
      false,
    ],
    ['up to date, only OutOfDate accepted', NEVER, { acceptedStatuses: ['OutOfDate'] }, false],
    ['another compose hash', NEVER, { expect: { compose_hash: '11'.repeat(32) } }, false],
    ['a name that evidence does not have', NEVER, { expect: { pcr0: '11'.repeat(32) } }, false],
  ])('%s', async (_name, change, policy, ok) => {
    const draft = tdxDraft(keys);
    change(draft);
    const report = await verifyForged(sealTdx(draft), 'v1', { policy });
    expect([report.isValid, report.policy.ok]).toEqual([true, ok]);
    expect(report.policy.reasons.length > 0).toBe(!ok);
  });
});
