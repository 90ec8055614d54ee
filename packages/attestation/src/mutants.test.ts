import { decodePem, toHex, utf8 } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import type { Attestation } from './attestation.ts';
import { decodeAttestation } from './codec/decode-attestation.ts';
import type { DcapCollateral } from './collateral-source.ts';
import { VerificationCache } from './crypto/verification-cache.ts';
import { AttestationError } from './errors.ts';
import { withTdxRoot } from './roots/replace-root.ts';
import type { TrustRoots } from './roots/trust-roots.ts';
import { vendorRoots } from './roots/vendor-roots.ts';
import { dcapCollateralFromJson, dcapCollateralToJson } from './tdx/collateral-json.ts';
import { staticCollateral } from './tdx/static-collateral.ts';
import { verifyDcap } from './tdx/verify-dcap.ts';
import { parseTdxQuote } from './tdx-quote/quote.ts';
import { mutate, seededRandom } from './testing/mutate.ts';
import { verifyAttestation, verifyContext } from './verify.ts';
import { parseCertificateChain } from './x509/certificate.ts';

/** All mutants of this file together; DSTACK_MUTANTS=10000000 for the long run, DSTACK_SEED for another one. */
const MUTANTS = Number(process.env['DSTACK_MUTANTS'] ?? 100_000);
const SEED = Number(process.env['DSTACK_SEED'] ?? 20);
/** A mutant must be judged within this much time of the processor: other processes on the machine do not count. */
const SLOWEST_MS = 250;

const roots = vendorRoots();
const cache = new VerificationCache();

const SETS = [
  ['tdx/dcapqvl-tdx-quote', 1751000000],
  ['sgx/dcapqvl-sgx-quote', 1751000000],
] as const;

describeWithFixtures('mutants of real evidence', 'attestation/tdx/dcapqvl-tdx-quote.bin', () => {
  for (const [path, now] of SETS) {
    const bytes = () => fixture(`attestation/${path}.bin`);
    const json = () => fixtureJson<Record<string, string>>(`attestation/${path}.collateral.json`);

    it(`${path}: quotes`, { timeout: 3_600_000 }, async () => {
      const collateral = dcapCollateralFromJson(json());
      const original = quoteFacts(bytes());
      await run(MUTANTS / 8, async (random) => {
        const mutant = mutate(bytes(), random);
        await judgeQuote(mutant, collateral, now, roots);
        return quoteFacts(mutant) === original;
      });
    });

    it(`${path}: collateral`, { timeout: 3_600_000 }, async () => {
      const fields = json();
      const names = Object.keys(fields);
      const original = collateralFacts(dcapCollateralFromJson(fields));
      await run(MUTANTS / 8, async (random) => {
        const name = names[random(names.length)]!;
        const text = new TextDecoder('latin1').decode(mutate(utf8(fields[name]!), random));
        const collateral = dcapCollateralFromJson({ ...fields, [name]: text });
        await judgeQuote(bytes(), collateral, now, roots);
        return collateralFacts(collateral) === original;
      });
    });
  }
});

describeWithFixtures('mutants of attestations', 'mock-evidence/expected.json', () => {
  const now = 1781524800;
  const configured = withTdxRoot(
    roots,
    decodePem(fixtureText('mock-evidence/set-a/roots/tdx-root-ca.pem'), 'CERTIFICATE'),
  );
  const collateral = staticCollateral(fixtureJson('mock-evidence/set-a/collateral/tdx-base.json'));

  it.each(['v0', 'v1'])('%s', { timeout: 3_600_000 }, async (form) => {
    const bytes = fixture(`mock-evidence/set-a/evidence/tdx-good.${form}.bin`);
    const original = attestationFacts(decodeAttestation(bytes));
    await run(MUTANTS / 4, async (random) => {
      const attestation = decodeAttestation(mutate(bytes, random));
      await verifyAttestation(attestation, { roots: configured, collateral, now, cache });
      return attestationFacts(attestation) === original;
    });
  });
});

/**
 * Judges `count` mutants. `judge` throws when it refuses one; what it accepts must say the same as the original
 * in everything that the verdict rests on.
 */
async function run(
  count: number,
  judge: (random: (limit: number) => number) => Promise<boolean>,
): Promise<void> {
  const random = seededRandom(SEED);
  let refused = 0;
  let slowest = 0;
  for (let i = 0; i < count; i++) {
    const start = process.cpuUsage();
    try {
      expect(await judge(random), `mutant ${i} of seed ${SEED} was accepted`).toBe(true);
    } catch (error) {
      if (!(error instanceof AttestationError)) throw error;
      refused++;
    }
    // The first ones warm up the compiler.
    const { user, system } = process.cpuUsage(start);
    if (i > 200) slowest = Math.max(slowest, (user + system) / 1000);
  }
  expect(refused).toBeGreaterThan(count / 2);
  expect(slowest).toBeLessThan(SLOWEST_MS);
}

async function judgeQuote(
  bytes: Uint8Array,
  collateral: DcapCollateral,
  now: number,
  anchors: TrustRoots,
): Promise<void> {
  const options = { roots: anchors, collateral: staticCollateral(collateral), now, cache };
  await verifyDcap(parseTdxQuote(bytes), collateral, verifyContext(options));
}

/** Everything of a quote that its verdict rests on: not the padding, nor how the PEM is broken into lines. */
function quoteFacts(bytes: Uint8Array): string {
  const quote = parseTdxQuote(bytes);
  if (quote.certification.type !== 5) return `type ${quote.certification.type}`;
  return [
    ...[quote.signed, quote.signature, quote.attestationKey].map(toHex),
    ...[quote.qeReportBytes, quote.qeReportSignature, quote.qeAuthData].map(toHex),
    ...pathOf(quote.certification.pem),
  ].join();
}

/** The certificates below the root; the root itself is the pinned one, whatever a chain ends with. */
function pathOf(pem: string): string[] {
  return parseCertificateChain(pem)
    .map((certificate) => toHex(certificate.der))
    .filter((der) => der !== toHex(roots.tdx[0]!.der))
    .slice(0, 2);
}

function collateralFacts(collateral: DcapCollateral): string {
  const { pck_crl_issuer_chain: _unused, ...json } = dcapCollateralToJson(collateral);
  return JSON.stringify({
    ...json,
    tcb_info_issuer_chain: pathOf(collateral.tcbInfoIssuerChain)[0],
    qe_identity_issuer_chain: pathOf(collateral.qeIdentityIssuerChain)[0],
  });
}

/** The configuration is not signed, and boot events may be left out; runtime events and report data never. */
function attestationFacts(attestation: Attestation): string {
  const { quote } = attestation;
  if (quote.mode !== 'dstack-tdx') return quote.mode;
  return JSON.stringify([
    quoteFacts(quote.quote),
    toHex(attestation.reportData),
    attestation.runtimeEvents.map((event) => [event.event, toHex(event.payload)]),
  ]);
}
