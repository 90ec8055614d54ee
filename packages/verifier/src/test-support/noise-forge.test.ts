import { DerReader, der, readDer } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Forged, SEED_A, verifyForged } from './forged.ts';
import { writeCertificate } from './forged-certificate.ts';
import { type MockKey, mockKeys, signWith } from './mock-keys.ts';
import { nitroDraft, sealNitro } from './nitro-forge.ts';
import { sealSnp, snpDraft } from './snp-forge.ts';
import { type Json, sealTdx, tdxDraft } from './tdx-forge.ts';

const keys = mockKeys(SEED_A);
const WEIRD = [null, -1, 0, 1.5, 2 ** 60, '', 'x', 'FF', '9'.repeat(5000), [], {}, true, [null], [[]]];

/** Signs a certificate's contents again after one bit of them changed. */
function resign(certificate: Uint8Array, key: MockKey, at: number, bit: number): Uint8Array {
  const reader = new DerReader(readDer(certificate).contents);
  const tbs = Uint8Array.from(reader.next().raw);
  const algorithm = reader.next().raw;
  // Past the header of the SEQUENCE itself.
  tbs[4 + (at % (tbs.length - 4))]! ^= 1 << bit;
  return der.sequence(tbs, algorithm, der.bitString(signWith(key, tbs, 'der')));
}

const CERTIFICATES: readonly [string, (at: number, bit: number) => Forged][] = [
  [
    'Nitro leaf',
    (at, bit) => {
      const draft = nitroDraft(keys, 'nsm');
      const leaf = writeCertificate(draft.certificates.leaf);
      draft.members.set('certificate', resign(leaf, keys('nsm-intermediate'), at, bit));
      return sealNitro(draft);
    },
  ],
  [
    'Nitro intermediate',
    (at, bit) => {
      const draft = nitroDraft(keys, 'nsm');
      draft.cabundle[1] = resign(
        writeCertificate(draft.certificates.intermediate),
        keys('nsm-root'),
        at,
        bit,
      );
      return sealNitro(draft);
    },
  ],
  [
    'VCEK',
    (at, bit) => {
      const draft = snpDraft(keys);
      draft.chain = ({ certificates: { ask, vcek } }) => [
        writeCertificate(ask),
        resign(writeCertificate(vcek), keys('sev-ask'), at, bit),
      ];
      return sealSnp(draft);
    },
  ],
  [
    'ASK',
    (at, bit) => {
      const draft = snpDraft(keys);
      draft.chain = ({ certificates: { ask, vcek } }) => [
        resign(writeCertificate(ask), keys('sev-root'), at, bit),
        writeCertificate(vcek),
      ];
      return sealSnp(draft);
    },
  ],
];

function paths(node: Json): string[][] {
  if (typeof node !== 'object' || node === null) return [];
  return Object.keys(node).flatMap((name) => [[name], ...paths(node[name]).map((rest) => [name, ...rest])]);
}

/** A verdict, soon, and never an error. A refusal names one failing check, the last. */
async function expectVerdict(forged: Forged): Promise<void> {
  const started = process.cpuUsage();
  const report = await verifyForged(forged, 'v0');
  expect(process.cpuUsage(started).user / 1000).toBeLessThan(1000);
  if (report.isValid) return;
  expect(report.reason).not.toBe('');
  expect(report.checks.filter((check) => !check.ok)).toEqual([report.checks.at(-1)]);
}

describeWithFixtures('noise under good signatures', 'mock-evidence/expected.json', () => {
  it.each(CERTIFICATES)('%s with one bit changed', async (_name, forge) => {
    await fc.assert(
      fc.asyncProperty(fc.nat(2000), fc.nat(7), (at, bit) => expectVerdict(forge(at, bit))),
      { numRuns: 60 },
    );
  });

  it.each(['tcbInfo', 'qeIdentity'] as const)('%s with a member of another kind', async (name) => {
    const places = paths(tdxDraft(keys)[name]);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...places), fc.constantFrom(...WEIRD), async (place, value) => {
        const draft = tdxDraft(keys);
        const parent = place.slice(0, -1).reduce<Json>((node, member) => node[member], draft[name]);
        parent[place.at(-1)!] = value;
        await expectVerdict(sealTdx(draft));
      }),
      { numRuns: 100 },
    );
  });
});
