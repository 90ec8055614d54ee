import {
  AttestationError,
  dcapCollateralFromJson,
  decodeAttestation,
  parseTdxQuote,
  staticCollateral,
  type TrustRoots,
  vendorRoots,
  verifyContext,
  verifyDcap,
  withTdxRoot,
} from '@dstack-cloud/attestation';
import { decodePem } from '@dstack-cloud/encoding';
import { QuoteVerifier } from '@phala/dcap-qvl';
import { expect, it } from 'vitest';
import { describeWithFixtures, fixture, fixtureJson, fixtureText } from '../support/fixtures.ts';

type Json = Record<string, string>;

interface Verdict {
  ok: boolean;
  status?: string;
  advisories?: readonly string[];
}

const REAL_SETS = ['tdx/dcapqvl-tdx-quote', 'sgx/dcapqvl-sgx-quote'];
/** Around the first and the last second of both, and in the middle. */
const TIMES = [
  1750329146, 1750329147, 1750330570, 1750330571, 1750330572, 1751000000, 1752919234, 1752919235, 1752919277,
  1752919279,
];

/** Where the peer accepts what ours refuses, or reports another status: each with its reason. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  'tdx/dcapqvl-tdx-quote at 1752919235': 'the peer does not look at nextUpdate of revocation lists',
  'tdx/dcapqvl-tdx-quote at 1752919277': 'the peer does not look at nextUpdate of revocation lists',
  'tdx/dcapqvl-tdx-quote at 1752919279': 'the peer does not look at nextUpdate of revocation lists',
  'tdx/dcapqvl-tdx-quote bit 6 of byte 1254': 'the peer ignores authentication data that no field covers',
  'tdx-bad-crl-at-next-update': 'the peer does not look at nextUpdate of revocation lists',
  'tdx-bad-root-crl-expired': 'the peer does not look at nextUpdate of revocation lists',
  'tdx-bad-pck-crl-wrong-issuer': 'the peer does not check signatures of revocation lists',
  'tdx-bad-pck-ca-not-ca': 'the peer does not look at CA flags',
  'tdx-module-out-of-date': 'the peer has no TDX module identities',
  'tdx-bad-module-unknown': 'the peer has no TDX module identities',
  'tdx-bad-module-svn-low': 'the peer has no TDX module identities',
  'tdx-bad-mrsignerseam': 'the peer has no TDX module identities',
  'tdx-module-svn-restart': "the peer compares TEE_TCB_SVN 0 and 1 always, against Intel's rule",
  'tdx-levels-unordered': 'the peer takes TCB levels in the order served',
  'tdx-bad-vendor': 'the peer does not look at the QE vendor id',
  'tdx-bad-qe-tail': 'the peer does not look at the tail of the QE report data',
  'tdx-bad-pceid': 'the peer does not compare the PCEID',
  'tdx-bad-component-count': 'the peer does not count TCB components',
};

async function ours(quote: Uint8Array, json: Json, now: number, roots: TrustRoots): Promise<Verdict> {
  const collateral = dcapCollateralFromJson(json);
  const context = verifyContext({ roots, collateral: staticCollateral(collateral), now });
  try {
    const verdict = await verifyDcap(parseTdxQuote(quote), collateral, context);
    return { ok: true, status: verdict.status, advisories: verdict.advisoryIds };
  } catch (error) {
    if (error instanceof AttestationError) return { ok: false };
    throw error;
  }
}

function peer(quote: Uint8Array, json: Json, now: number, root: Uint8Array): Verdict {
  try {
    const verifier = QuoteVerifier.newWithRootCa(Buffer.from(root));
    // Its types know the collateral as bytes; its code also reads the hex of the JSON form.
    const { status, advisory_ids } = verifier.verify(quote, json as never, now);
    return { ok: true, status: String(status), advisories: advisory_ids };
  } catch {
    return { ok: false };
  }
}

async function compare(name: string, quote: Uint8Array, json: Json, now: number, roots: TrustRoots) {
  const mine = await ours(quote, json, now, roots);
  const theirs = peer(quote, json, now, roots.tdx.at(-1)!.der);
  const same = JSON.stringify(mine) === JSON.stringify(theirs);
  expect({ name, same, mine, theirs }).toEqual({ name, same: !(name in DIFFERENCES), mine, theirs });
}

describeWithFixtures('verdicts of npm @phala/dcap-qvl', 'attestation/tdx/dcapqvl-tdx-quote.bin', () => {
  const roots = vendorRoots();
  for (const path of REAL_SETS) {
    const quote = () => fixture(`attestation/${path}.bin`);
    const json = () => fixtureJson<Json>(`attestation/${path}.collateral.json`);

    it.each(TIMES)(`${path} at %i`, (now) => compare(`${path} at ${now}`, quote(), json(), now, roots));

    it(`${path}: one flipped bit in every eleventh byte up to the certificates`, {
      timeout: 120_000,
    }, async () => {
      for (let offset = 0; offset < 1260; offset += 11) {
        const changed = quote().slice();
        const bit = offset % 8;
        changed[offset]! ^= 1 << bit;
        await compare(`${path} bit ${bit} of byte ${offset}`, changed, json(), 1751000000, roots);
      }
    });
  }
});

describeWithFixtures(
  'verdicts of npm @phala/dcap-qvl on mock evidence',
  'mock-evidence/expected.json',
  () => {
    interface Case {
      id: string;
      mode: string;
      now: number;
      files: Json;
      tdx_collateral?: string;
    }
    const { cases } = fixtureJson<{ cases: Case[] }>('mock-evidence/expected.json');
    const root = decodePem(fixtureText('mock-evidence/set-a/roots/tdx-root-ca.pem'), 'CERTIFICATE');
    const roots = withTdxRoot(vendorRoots(), root);

    const collateralJson = (path: string): Json => {
      const json = fixtureJson<Json & { base?: string; override?: Json }>(`mock-evidence/${path}`);
      if (!json.base) return json;
      return {
        ...collateralJson(`${path.slice(0, path.lastIndexOf('/') + 1)}${json.base}.json`),
        ...json.override,
      };
    };

    for (const item of cases) {
      if (item.mode !== 'dstack-tdx' || !item.tdx_collateral || item.id.startsWith('wire-')) continue;
      const path = item.files['v0'] ?? item.files['v1'];
      if (!path) continue;
      it(item.id, async () => {
        const { quote } = decodeAttestation(fixture(`mock-evidence/${path}`));
        if (quote.mode !== 'dstack-tdx') throw new Error(quote.mode);
        await compare(item.id, quote.quote, collateralJson(item.tdx_collateral!), item.now, roots);
      });
    }
  },
);
