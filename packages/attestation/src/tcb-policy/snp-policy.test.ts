import { describe, expect, it } from 'vitest';
import { type SnpLevel, type SnpPolicy, snpPolicyFromConfig } from './snp-policy.ts';
import { appraiseTcb } from './tcb-policy.ts';

const LEVEL: SnpLevel = {
  product: 'Turin',
  reportedTcb: { fmc: 1, bootLoader: 4, tee: 0, snp: 24, microcode: 219 },
  aliasCheckComplete: true,
  simulated: false,
};
const judged = (snp: SnpLevel | undefined, policy: SnpPolicy = {}) =>
  appraiseTcb(
    { mode: 'dstack-amd-sev-snp', tcbStatus: 'UpToDate', advisoryIds: [], snp },
    { snp: policy },
    1_780_000_000,
  );

describe('policy on AMD platforms', () => {
  it('demands by default that memory was checked for aliases', () => {
    const unchecked = { ...LEVEL, aliasCheckComplete: false };
    expect(judged(LEVEL)).toEqual({ ok: true, reasons: [] });
    expect(judged(unchecked).reasons).toEqual([expect.stringContaining('AMD-SB-3015')]);
    expect(judged(unchecked, { acceptUncheckedAliases: true }).ok).toBe(true);
    // A machine that does not exist has no memory.
    expect(judged({ ...unchecked, simulated: true }).ok).toBe(true);
  });

  it('accepts no evidence whose platform it was not told', () => {
    expect(judged(undefined).ok).toBe(false);
    expect(appraiseTcb({ mode: 'dstack-tdx', tcbStatus: 'UpToDate', advisoryIds: [] }, {}, 1).ok).toBe(true);
  });

  it.each([
    ['equal', { fmc: 1, boot_loader: 4, tee: 0, snp: 24, microcode: 219 }, []],
    ['lower', { fmc: 0, boot_loader: 3, microcode: 1 }, []],
    ['a newer fmc', { fmc: 2 }, ['SEV-SNP TCB of Turin: fmc 1 is below 2']],
    ['a newer boot loader', { boot_loader: 5 }, ['SEV-SNP TCB of Turin: bootLoader 4 is below 5']],
    [
      'a newer firmware and microcode',
      { snp: 25, microcode: 220 },
      ['SEV-SNP TCB of Turin: snp 24 is below 25', 'SEV-SNP TCB of Turin: microcode 219 is below 220'],
    ],
  ])('holds the reported TCB to the minimum of its product: %s', (_name, minimum, reasons) => {
    const policy = snpPolicyFromConfig({ minimum_tcb: { Turin: minimum, Milan: { microcode: 255 } } });
    expect(judged(LEVEL, policy).reasons).toEqual(reasons);
    const { fmc: _, ...parts } = LEVEL.reportedTcb;
    const genoa: SnpLevel = { ...LEVEL, product: 'Genoa', reportedTcb: parts };
    expect(judged(genoa, policy).ok).toBe(true);
  });

  it('refuses a part that the product does not have', () => {
    const { fmc: _, ...parts } = LEVEL.reportedTcb;
    const policy = snpPolicyFromConfig({ minimum_tcb: { Genoa: { fmc: 0 } } });
    expect(judged({ ...LEVEL, product: 'Genoa', reportedTcb: parts }, policy).reasons).toEqual([
      'SEV-SNP TCB of Genoa: fmc unknown is below 0',
    ]);
  });
});
