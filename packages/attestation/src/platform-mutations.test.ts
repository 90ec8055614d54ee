import { decodePem } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import {
  type Attestation,
  AttestationError,
  dcapCollateralFromJson,
  decodeAttestation,
  type RootName,
  replaceRoot,
  tpmCollateralFromJson,
  VerificationCache,
  vendorRoots,
  verifyAttestation,
} from './index.ts';

const DIR = 'mock-evidence';
const NOW = 1781524800;
const RUNS = Number(process.env['MUTATIONS'] ?? 400);

/** Parts of the evidence that are signed, or must be exact: no changed byte may pass. */
type Part = readonly [
  name: string,
  file: string,
  get: (a: Attestation) => Uint8Array,
  set: (a: Attestation, part: Uint8Array) => Attestation,
];

const PARTS: readonly Part[] = [
  ['NSM document', 'nitro-good', (a) => nitro(a).nsmQuote, (a, nsmQuote) => put(a, { nsmQuote })],
  [
    'NitroTPM document',
    'awstpm-good',
    (a) => aws(a).attestationDoc,
    (a, attestationDoc) => put(a, { attestationDoc }),
  ],
  ['SEV-SNP report', 'snp-good', (a) => snp(a).report, (a, report) => put(a, { report })],
  [
    'VCEK',
    'snp-good-der',
    (a) => snp(a).certChain[1]!,
    (a, vcek) => put(a, { certChain: [snp(a).certChain[0]!, vcek] }),
  ],
  [
    'ASK',
    'snp-good-der',
    (a) => snp(a).certChain[0]!,
    (a, ask) => put(a, { certChain: [ask, snp(a).certChain[1]!] }),
  ],
  [
    'certificate table',
    'snp-good-cert-table',
    (a) => snp(a).certChain[0]!,
    (a, table) => put(a, { certChain: [table] }),
  ],
  ['TPMS_ATTEST', 'gcp-good', (a) => gcp(a).tpmQuote.message, (a, message) => tpm(a, { message })],
  ['TPMT_SIGNATURE', 'gcp-good', (a) => gcp(a).tpmQuote.signature, (a, signature) => tpm(a, { signature })],
  ['AK certificate', 'gcp-good', (a) => gcp(a).tpmQuote.akCert, (a, akCert) => tpm(a, { akCert })],
];

describeWithFixtures('mutated evidence of every platform but bare TDX', `${DIR}/expected.json`, () => {
  const { sets } = fixtureJson<{ sets: { A: { roots: Record<string, string> } } }>(`${DIR}/expected.json`);
  const roots = Object.entries(sets.A.roots).reduce(
    (all, [name, path]) =>
      replaceRoot(all, name as RootName, decodePem(fixtureText(`${DIR}/${path}`), 'CERTIFICATE')),
    vendorRoots(),
  );
  const json = (name: string) => fixtureJson<Record<string, string>>(`${DIR}/set-a/collateral/${name}.json`);
  const dcap = dcapCollateralFromJson(json('tdx-base'));
  const vtpm = tpmCollateralFromJson(json('tpm-base'));
  const verify = (attestation: Attestation) =>
    verifyAttestation(attestation, {
      roots,
      collateral: { tdx: async () => dcap, tpm: async () => vtpm },
      now: NOW,
      cache: new VerificationCache(),
      platform: { gcpFirmwareEndorsement: false },
    });

  for (const [name, file, get, set] of PARTS) {
    it(`${name}: no changed, shortened or longer form is accepted`, async () => {
      const attestation = decodeAttestation(fixture(`${DIR}/set-a/evidence/${file}.v0.bin`));
      const original = get(attestation);
      await verify(attestation);
      const random = generator(0x5eed);
      for (let i = 0; i < RUNS; i++) {
        const mutant = mutate(original, random, name !== 'TPMT_SIGNATURE' && name !== 'certificate table');
        const outcome = await verify(set(attestation, mutant)).catch((error: unknown) => error);
        if (outcome instanceof AttestationError) continue;
        if (outcome instanceof Error) throw outcome;
        if (name === 'certificate table') continue;
        expect.fail(`accepted mutant ${i}: ${Buffer.from(mutant).toString('hex')}`);
      }
    });
  }
});

/** xorshift32, so that a failure can be run again. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function mutate(bytes: Uint8Array, random: (below: number) => number, lengths: boolean): Uint8Array {
  const kind = lengths ? random(8) : 0;
  if (kind === 6) return bytes.slice(0, random(bytes.length));
  if (kind === 7) return Uint8Array.from([...bytes, random(256)]);
  const mutant = bytes.slice();
  const flips = 1 + random(3);
  for (let i = 0; i < flips; i++) mutant[random(mutant.length)]! ^= 1 << random(8);
  return mutant.every((byte, i) => byte === bytes[i]) ? mutate(bytes, random, lengths) : mutant;
}

const nitro = (a: Attestation) => a.quote as Extract<Attestation['quote'], { mode: 'dstack-nitro-enclave' }>;
const aws = (a: Attestation) => a.quote as Extract<Attestation['quote'], { mode: 'dstack-aws-nitro-tpm' }>;
const snp = (a: Attestation) => a.quote as Extract<Attestation['quote'], { mode: 'dstack-amd-sev-snp' }>;
const gcp = (a: Attestation) => a.quote as Extract<Attestation['quote'], { mode: 'dstack-gcp-tdx' }>;

function put(a: Attestation, changed: object): Attestation {
  return { ...a, quote: { ...a.quote, ...changed } as Attestation['quote'] };
}

function tpm(a: Attestation, changed: object): Attestation {
  return put(a, { tpmQuote: { ...gcp(a).tpmQuote, ...changed } });
}
