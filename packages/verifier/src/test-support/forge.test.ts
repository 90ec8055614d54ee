import { createHash } from 'node:crypto';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { judgeForged, SEED_A, verdictOf } from './forged.ts';
import { gcpDraft, sealGcp } from './gcp-forge.ts';
import { mockKeys } from './mock-keys.ts';
import { nitroDraft, sealNitro } from './nitro-forge.ts';
import { sealSnp, snpDraft } from './snp-forge.ts';
import { sealTdx, tdxDraft } from './tdx-forge.ts';

const SEEDS = { 'set A': SEED_A, 'another seed': new Uint8Array(createHash('sha256').update('other').digest()) };

describeWithFixtures('forged evidence that breaks no rule', 'mock-evidence/expected.json', () => {
  for (const [name, seed] of Object.entries(SEEDS)) {
    const keys = mockKeys(seed);
    it.each([
      ['dstack-tdx', sealTdx(tdxDraft(keys)), 'good UpToDate'],
      ['gcp-tdx', sealGcp(gcpDraft(keys)), 'good UpToDate'],
      ['nitro', sealNitro(nitroDraft(keys, 'nsm')), 'good'],
      ['nitro-tpm', sealNitro(nitroDraft(keys, 'nitro-tpm')), 'good UpToDate'],
      ['sev-snp', sealSnp(snpDraft(keys)), 'good UpToDate'],
    ] as const)(`${name}: %s`, async (_mode, forged, expected) => {
      for (const form of ['v0', 'v1'] as const) {
        const report = await judgeForged(forged, form);
        expect([verdictOf(report), report.reason, report.simulated]).toEqual([expected, undefined, true]);
      }
    });
  }
});
