import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { type Forged, type Keys, SEED_A, verdictOf, verifyForged } from './forged.ts';
import { mockKeys } from './mock-keys.ts';

const OTHER_SEED = new Uint8Array(createHash('sha256').update('other').digest());
/** The fixture's seed and another; keys are derived once for all tables. */
const SEEDS: readonly [string, Keys][] = [
  ['set A', mockKeys(SEED_A)],
  ['another seed', mockKeys(OTHER_SEED)],
];

/** Name, change to a good draft, verdict: `good`, or code and check of the refusal; wire forms, where not both and bare. */
export type Row<D> = readonly [
  name: string,
  change: (draft: D) => void,
  verdict: string,
  forms?: readonly ('v0' | 'v1')[],
];

/** Verifies each row under both seeds and in both wire forms; evidence is signed again after the change. */
export function forgeTable<D>(
  draftOf: (keys: Keys) => D,
  seal: (draft: D) => Forged,
  rows: readonly Row<D>[],
): void {
  for (const [name, change, verdict, forms] of rows) {
    it(`${verdict}: ${name}`, async () => {
      for (const [seed, keys] of SEEDS) {
        const draft = draftOf(keys);
        change(draft);
        const forged = seal(draft);
        for (const form of forms ?? (['v0', 'v1'] as const)) {
          const started = process.cpuUsage();
          const report = await verifyForged(forged, form);
          const found = verdictOf(report);
          expect(found, `${seed}, ${form}: ${found}`).toBe(verdict);
          expect(process.cpuUsage(started).user / 1000).toBeLessThan(1000);
          if (!report.isValid) continue;
          expect(report.simulated).toBe(Object.keys(forged.roots).some((name) => !isVendors(forged, name)));
          expect(report.validFrom ?? 0).toBeLessThanOrEqual(forged.now);
          expect(report.validUntil ?? forged.now).toBeGreaterThanOrEqual(forged.now);
        }
        if (!forms) await verifyBare(forged, verdict);
      }
    });
  }
}

const isVendors = ({ vendors = [] }: Forged, name: string): boolean => vendors.some((own) => own === name);

/** Checks that the hardware's own evidence goes through, with or without an attestation around it. */
const BARE_CHECKS =
  /^(tdx\.(quote|pck|attestation-key|root-crl|crl-form|tcb|qe|module|debug|attributes|mrservicetd)|nitro\.(?!user-data)|snp\.(?!report-data|host-data|mr-config|certificates))/;

/** What is bad by itself is refused by itself; what is good stays good. vTPM quotes have another bare form. */
async function verifyBare(forged: Forged, verdict: string): Promise<void> {
  if (forged.attestation.quote.mode === 'dstack-gcp-tdx') return;
  const [code, check = ''] = verdict.split(' ');
  if (code !== 'good' && !BARE_CHECKS.test(check)) return;
  if (code === 'good' && !isCarriedBare(forged)) return;
  const report = await verifyForged(forged, 'bare');
  if (code === 'good') expect(verdictOf(report), `bare: ${verdictOf(report)}`).toBe(verdict);
  expect(report.isValid, 'bare').toBe(code === 'good');
}

/** The command takes SEV-SNP certificates as certificates, not as the kernel's table. */
function isCarriedBare({ attestation: { quote } }: Forged): boolean {
  return !('certChain' in quote) || quote.certChain.every(([first]) => first === 0x2d || first === 0x30);
}
