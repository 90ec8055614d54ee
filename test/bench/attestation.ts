/**
 * Verification of each platform's evidence, beside the signature checks that no verifier can do without and a pure
 * JavaScript peer. "Warm" means that certificates and collateral were seen before, as in a service that judges one
 * machine after the other; "cold" that nothing was.
 */
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import {
  type Attestation,
  type DcapCollateral,
  dcapCollateralFromJson,
  decodeAttestation,
  parseTdxQuote,
  RUNTIME_EVENT_TYPE,
  type RuntimeEvent,
  replayRuntimeEvents,
  staticCollateral,
  VerificationCache,
  type VerifyContext,
  vendorRoots,
  verifyAkCertificate,
  verifyContext,
  verifyDcap,
  verifyNitroDocument,
  verifySnpReport,
  verifyTpmQuote,
} from '@dstack-cloud/attestation';
import { decodePem, decodePemAll, encodePem } from '@dstack-cloud/encoding';
import { recogniseEvidence } from '@dstack-cloud/verifier';
import { fixture, fixtureJson, fixtureText } from '../support/fixtures.ts';
import { percentile, type Result } from './result.ts';

/**
 * Many rounds of a millisecond or two, taken in turn: a busy machine is then busy for all of them alike, and most
 * rounds end before the scheduler takes the core away.
 */
const ROUNDS = 301;
/**
 * The figure is the lower decile of the rounds: what the code costs when nobody else has the core. A median would
 * compare a long check that was interrupted with a short one that was not.
 */
const UNDISTURBED = 0.1;
/** The peer leaves so much garbage that it would slow what comes after it: it has rounds of its own. */
const PEER_ROUNDS = 21;

/** Times at which the evidence of the fixtures was good, in Unix seconds. */
const NOW = { tdx: 1_751_000_000, nitro: 1_665_651_482, snp: 1_790_000_000, vtpm: 1_770_113_522 } as const;

interface Measured {
  readonly name: string;
  readonly perRound: number;
  readonly warmUp: number;
  /** Figure of the same run that this one is held against. */
  readonly peer?: string;
  readonly run: () => unknown;
}

const P256 = 'p256-verify-ms';
const P384 = 'p384-verify-ms';

export async function run(): Promise<Result[]> {
  const measured: Measured[] = [
    { name: P256, perRound: 20, warmUp: 500, run: bareCheck('P-256', 'sha256') },
    { name: P384, perRound: 2, warmUp: 50, run: bareCheck('P-384', 'sha384') },
    ...tdx(),
    { name: 'nitro-verify-warm-ms', perRound: 2, warmUp: 200, peer: P384, run: nitro() },
    { name: 'snp-verify-warm-ms', perRound: 2, warmUp: 200, peer: P384, run: snp() },
    { name: 'vtpm-verify-ms', perRound: 15, warmUp: 1000, peer: P256, run: vtpm() },
    { name: 'event-log-100-ms', perRound: 5, warmUp: 200, run: eventLog() },
  ];
  const figures = await measure(measured, ROUNDS);
  const javascript = await javascriptPeer();
  for (const [name, value] of await measure([javascript], PEER_ROUNDS)) figures.set(name, value);
  return [...measured, javascript].map(({ name, perRound, peer }) => ({
    suite: 'attestation',
    name,
    value: figures.get(name)!,
    unit: 'ms',
    n: perRound * (name === javascript.name ? PEER_ROUNDS : ROUNDS),
    ...(peer === undefined ? {} : { peer: { name: peer, value: figures.get(peer)! } }),
  }));
}

async function measure(measured: readonly Measured[], count: number): Promise<Map<string, number>> {
  const rounds = new Map<string, number[]>(measured.map(({ name }) => [name, []]));
  for (const item of measured) for (let i = 0; i < item.warmUp; i++) await item.run();
  for (let round = 0; round < count; round++) {
    for (const item of measured) {
      await item.run(); // Untimed: what ran in between has taken the processor's caches.
      const start = performance.now();
      for (let i = 0; i < item.perRound; i++) await item.run();
      rounds.get(item.name)!.push((performance.now() - start) / item.perRound);
    }
  }
  return new Map([...rounds].map(([name, values]) => [name, percentile(values, UNDISTURBED)]));
}

const QUOTE = 'attestation/tdx/dcapqvl-tdx-quote.bin';
const COLLATERAL = 'attestation/tdx/dcapqvl-tdx-quote.collateral.json';

function tdx(): Measured[] {
  const quote = fixture(QUOTE);
  const collateral = dcapCollateralFromJson(fixtureJson(COLLATERAL));
  const roots = vendorRoots();
  const verify = (source: DcapCollateral, cache: VerificationCache) =>
    verifyDcap(
      parseTdxQuote(quote),
      source,
      verifyContext({ roots, collateral: staticCollateral(source), now: NOW.tdx, cache }),
    );
  const warm = new VerificationCache();
  return [
    {
      name: 'tdx-verify-warm-ms',
      perRound: 10,
      warmUp: 2000,
      peer: P256,
      run: () => verify(collateral, warm),
    },
    // A fresh cache and a fresh collateral object: nothing of either is known.
    {
      name: 'tdx-verify-cold-ms',
      perRound: 2,
      warmUp: 600,
      peer: P256,
      run: () => verify({ ...collateral }, new VerificationCache()),
    },
  ];
}

async function javascriptPeer(): Promise<Measured> {
  const { verify: peerVerify } = await import('@phala/dcap-qvl');
  const quote = fixture(QUOTE);
  const json = fixtureJson<Record<string, string>>(COLLATERAL);
  return {
    name: 'tdx-verify-peer-js-ms',
    perRound: 2,
    warmUp: 5,
    peer: 'tdx-verify-warm-ms',
    run: () => peerVerify(quote, json as never, NOW.tdx),
  };
}

/** A context of its own for each verification, with a cache that all of them share. */
function contexts(now: number): () => VerifyContext {
  const roots = vendorRoots();
  const cache = new VerificationCache();
  const collateral = { tdx: () => Promise.reject(new Error('Not needed')) };
  return () => verifyContext({ roots, collateral, now, cache });
}

function nitro(): () => Promise<unknown> {
  const document = fixture('attestation/nitro/evervault-valid.cose');
  const context = contexts(NOW.nitro);
  return () => verifyNitroDocument(document, 'nsm', context());
}

function snp(): () => Promise<unknown> {
  const { quote } = decodeAttestation(fixture('attestation/dstack/sev-snp-attestation-v0.bin'));
  const { report } = quote as Extract<Attestation['quote'], { report: Uint8Array }>;
  const chain = ['ask', 'vcek'].map((name) =>
    decodePem(fixtureText(`attestation/dstack/sev-snp-${name}.pem`), 'CERTIFICATE'),
  );
  const context = contexts(NOW.snp);
  return () => verifySnpReport(report, chain, context());
}

/** The quote of an ECC attestation key, its certificate chain, and that the one is of the other. */
function vtpm(): () => Promise<unknown> {
  const evidence = recogniseEvidence(fixture('attestation/tpm/gcp-tdx-vtpm-quote.json'));
  if (evidence.kind !== 'gcp-vtpm') throw new Error(`Not a vTPM quote: ${evidence.kind}`);
  const { tpm, certChainPem } = evidence;
  const [akCert, ...issuers] = decodePemAll(certChainPem, 'CERTIFICATE');
  const collateral = {
    certChainPem: issuers.map((der) => encodePem('CERTIFICATE', der)).join(''),
    crls: [],
  };
  const context = contexts(NOW.vtpm);
  return async () => {
    const own = context();
    const { leaf } = await verifyAkCertificate(akCert!, collateral, { revocation: 'soft' }, own);
    await verifyTpmQuote({ ...tpm, key: leaf.spki }, own);
  };
}

/** Events as a workload emits them, replayed to the register of RTMR3. */
function eventLog(): () => unknown {
  const events: RuntimeEvent[] = Array.from({ length: 100 }, (_, i) => ({
    type: RUNTIME_EVENT_TYPE,
    event: `event-${i}`,
    payload: new Uint8Array(32).fill(i),
  }));
  return () => replayRuntimeEvents(events, 'sha384');
}

/** One ECDSA check with an imported key. */
function bareCheck(namedCurve: 'P-256' | 'P-384', hash: string): () => boolean {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve });
  const data = new Uint8Array(632);
  const signature = sign(hash, data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return () => verify(hash, data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature);
}
