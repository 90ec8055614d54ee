/**
 * TDX verification beside its limit (bare signature checks with an imported key) and a pure JavaScript peer.
 * Figures are medians of rounds, interleaved so that a busy machine is busy for all of them.
 */

import { generateKeyPairSync, sign, verify } from 'node:crypto';
import {
  type DcapCollateral,
  dcapCollateralFromJson,
  parseTdxQuote,
  staticCollateral,
  VerificationCache,
  vendorRoots,
  verifyContext,
  verifyDcap,
} from '@dstack-cloud/attestation';
import { fixture, fixtureJson } from '../support/fixtures.ts';
import { median, type Result } from './result.ts';

const ROUNDS = 11;
const WARM_UP = 300;
const NOW = 1_751_000_000;

interface Measured {
  readonly name: string;
  readonly perRound: number;
  readonly warmUp: number;
  readonly run: () => unknown;
}

export async function run(): Promise<Result[]> {
  const quote = fixture('attestation/tdx/dcapqvl-tdx-quote.bin');
  const json = fixtureJson<Record<string, string>>('attestation/tdx/dcapqvl-tdx-quote.collateral.json');
  const collateral = dcapCollateralFromJson(json);
  const roots = vendorRoots();
  const judge = (source: DcapCollateral, cache: VerificationCache) =>
    verifyDcap(
      parseTdxQuote(quote),
      source,
      verifyContext({ roots, collateral: staticCollateral(source), now: NOW, cache }),
    );
  const warm = new VerificationCache();
  const { verify: peerVerify } = await import('@phala/dcap-qvl');

  const measured: Measured[] = [
    { name: 'p256-verify-ms', perRound: 200, warmUp: WARM_UP, run: bareCheck('P-256', 'sha256') },
    { name: 'p384-verify-ms', perRound: 40, warmUp: 40, run: bareCheck('P-384', 'sha384') },
    { name: 'tdx-verify-warm-ms', perRound: 200, warmUp: 2000, run: () => judge(collateral, warm) },
    // A fresh cache and a fresh collateral object: nothing of either is known.
    {
      name: 'tdx-verify-cold-ms',
      perRound: 50,
      warmUp: WARM_UP,
      run: () => judge({ ...collateral }, new VerificationCache()),
    },
    {
      name: 'tdx-verify-peer-js-ms',
      perRound: 5,
      warmUp: 5,
      run: () => peerVerify(quote, json as never, NOW),
    },
  ];
  const figures = await measure(measured);
  const p256 = { name: 'p256-verify-ms', value: figures.get('p256-verify-ms')! };
  return measured.map(({ name, perRound }) => ({
    suite: 'attestation',
    name,
    value: figures.get(name)!,
    unit: 'ms',
    n: perRound * ROUNDS,
    ...(name.startsWith('tdx-') ? { peer: p256 } : {}),
  }));
}

async function measure(measured: readonly Measured[]): Promise<Map<string, number>> {
  const rounds = new Map<string, number[]>(measured.map(({ name }) => [name, []]));
  for (const item of measured) for (let i = 0; i < item.warmUp; i++) await item.run();
  for (let round = 0; round < ROUNDS; round++) {
    for (const item of measured) {
      const start = performance.now();
      for (let i = 0; i < item.perRound; i++) await item.run();
      rounds.get(item.name)!.push((performance.now() - start) / item.perRound);
    }
  }
  return new Map([...rounds].map(([name, values]) => [name, median(values)]));
}

/** One ECDSA check with an imported key: what no verifier can do without. */
function bareCheck(namedCurve: 'P-256' | 'P-384', hash: string): () => boolean {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve });
  const data = new Uint8Array(632);
  const signature = sign(hash, data, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  return () => verify(hash, data, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature);
}
