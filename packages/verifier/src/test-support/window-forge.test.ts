import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { type Forged, SEED_A, verifyForged } from './forged.ts';
import { gcpDraft, sealGcp } from './gcp-forge.ts';
import { mockKeys } from './mock-keys.ts';
import { nitroDraft, sealNitro } from './nitro-forge.ts';
import { sealSnp, snpDraft } from './snp-forge.ts';
import { sealTdx, tdxDraft } from './tdx-forge.ts';

const keys = mockKeys(SEED_A);
const SOON = 3000;

describeWithFixtures('window of validity that a report names', 'mock-evidence/expected.json', () => {
  it.each<[string, () => Forged]>([
    ['dstack-tdx', () => sealTdx(tdxDraft(keys))],
    [
      'dstack-tdx, a revocation list that ends first',
      () => {
        const draft = tdxDraft(keys);
        draft.crls.pck.nextUpdate = draft.now + SOON;
        draft.crls.pck.thisUpdate = draft.now - SOON;
        return sealTdx(draft);
      },
    ],
    [
      'dstack-tdx, a certificate that ends first',
      () => {
        const draft = tdxDraft(keys);
        draft.certificates.qe.notAfter = draft.now + SOON;
        draft.certificates.pckCa.notBefore = draft.now - SOON;
        return sealTdx(draft);
      },
    ],
    ['dstack-gcp-tdx', () => sealGcp(gcpDraft(keys))],
    [
      'dstack-gcp-tdx, a list of the vTPM that ends first',
      () => {
        const draft = gcpDraft(keys);
        draft.crls.root.nextUpdate = draft.tdx.now + SOON;
        draft.certificates.ak.notBefore = draft.tdx.now - SOON;
        return sealGcp(draft);
      },
    ],
    ['dstack-nitro-enclave', () => sealNitro(nitroDraft(keys, 'nsm'))],
    [
      'dstack-nitro-enclave, a leaf that ends first',
      () => {
        const draft = nitroDraft(keys, 'nsm');
        draft.certificates.leaf.notAfter = draft.now + 20;
        draft.certificates.leaf.notBefore = draft.now - 20;
        return sealNitro(draft);
      },
    ],
    ['dstack-aws-nitro-tpm', () => sealNitro(nitroDraft(keys, 'nitro-tpm'))],
    [
      'dstack-amd-sev-snp',
      () => {
        const draft = snpDraft(keys);
        draft.certificates.vcek.notAfter = draft.now + SOON;
        draft.certificates.ask.notBefore = draft.now - SOON;
        return sealSnp(draft);
      },
    ],
  ])('%s: good in its first and last second, refused one before and one after', async (_mode, seal) => {
    const forged = seal();
    const { validFrom, validUntil } = await verifyForged(forged, 'v0');
    const verdicts = [];
    for (const now of [validFrom! - 1, validFrom!, validUntil!, validUntil! + 1]) {
      verdicts.push((await verifyForged(forged, 'v0', { now })).isValid);
    }
    expect(verdicts).toEqual([false, true, true, false]);
  });
});
