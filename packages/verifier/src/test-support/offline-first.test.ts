/** Nobody is asked for the sake of evidence that shows by itself that it is bad. */
import {
  type CollateralSource,
  type RootName,
  replaceRoot,
  VerificationCache,
  type VerifiedAttestation,
  type VerifyOptions,
  vendorRoots,
  verifyAttestation,
} from '@dstack-cloud/attestation';
import { concatBytes } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { readCollateral, staticSource } from '../collateral/static-source.ts';
import { type Forged, SEED_A } from './forged.ts';
import { type GcpDraft, gcpDraft, sealGcp, setPcr, setPcr2 } from './gcp-forge.ts';
import { mockKeys } from './mock-keys.ts';
import { type NitroDraft, nitroDraft, sealNitro } from './nitro-forge.ts';
import { SNP, type SnpDraft, sealSnp, snpDraft } from './snp-forge.ts';
import { sealTdx, setTd, type TdxDraft, tdxDraft } from './tdx-forge.ts';

describeWithFixtures('evidence that is bad by itself', 'mock-evidence/expected.json', () => {
  const keys = mockKeys(SEED_A);
  const other = keys('somebody else');

  /** Verifies evidence with a source that has nothing at hand; gives what was asked for. */
  async function askedFor(
    forged: Forged,
    binding: Pick<VerifyOptions, 'expectedReportData' | 'ratlsSpki'> = {},
    atHand = false,
  ): Promise<{ asked: string[]; result: VerifiedAttestation | string }> {
    const asked: string[] = [];
    const given = staticSource(readCollateral(forged.collateral));
    const collateral: CollateralSource = {
      atHand: () => atHand,
      tdx: (request) => {
        asked.push('tdx');
        return given.tdx(request);
      },
      tpm: (request) => {
        asked.push('tpm');
        return given.tpm!(request);
      },
      pckCertificate: () => {
        asked.push('pck');
        return Promise.resolve('');
      },
      snp: () => {
        asked.push('snp');
        return Promise.reject(new Error('nobody is there'));
      },
      crl: () => {
        asked.push('crl');
        return Promise.reject(new Error('nobody is there'));
      },
    };
    const roots = Object.entries(forged.roots).reduce(
      (all, [name, certificate]) => replaceRoot(all, name as RootName, certificate),
      vendorRoots(),
    );
    const result = await verifyAttestation(forged.attestation, {
      ...binding,
      roots,
      collateral,
      now: forged.now,
      cache: new VerificationCache(),
      platform: { gcpFirmwareEndorsement: false },
    }).catch((error: Error & { check?: string }) => error.check ?? error.message);
    return { asked, result };
  }

  const tdx = (change: (draft: TdxDraft) => void) => (): Forged => {
    const draft = tdxDraft(keys);
    change(draft);
    return sealTdx(draft);
  };
  const gcp = (change: (draft: GcpDraft) => void) => (): Forged => {
    const draft = gcpDraft(keys);
    change(draft);
    return sealGcp(draft);
  };
  const snp = (change: (draft: SnpDraft) => void) => (): Forged => {
    const draft = snpDraft(keys);
    draft.chain = () => [];
    change(draft);
    return sealSnp(draft);
  };
  const nitro = (change: (draft: NitroDraft) => void) => (): Forged => {
    const draft = nitroDraft(keys, 'nsm');
    change(draft);
    return sealNitro(draft);
  };
  /** One bit of the quote's signature is another. */
  const spoilt = (draft: TdxDraft): void => {
    draft.alterQuote = (bytes) => bytes.map((byte, at) => (at === 700 - 1 ? byte ^ 1 : byte));
  };
  /** A quote that names its PCK certificate by an encrypted PPID. */
  const withoutPck = (draft: TdxDraft): void => {
    const before = draft.alterQuote;
    draft.alterQuote = (bytes) => {
      const quote = before(bytes).slice();
      // Type and size follow the QE's authentication data; the sizes around them are those of what is left.
      const at = 632 + 4 + 128 + 6 + 384 + 64 + 2 + draft.qeAuth.length;
      const tail = concatBytes(Uint8Array.of(3, 0), uint32(384 + 20), new Uint8Array(384 + 20));
      const cut = concatBytes(quote.subarray(0, at), tail);
      new DataView(cut.buffer).setUint32(632, cut.length - 636, true);
      new DataView(cut.buffer).setUint32(632 + 4 + 128 + 2, cut.length - 770, true);
      return cut;
    };
  };

  it.each<[string, () => Forged, string]>([
    ['TDX quote signed by another key', tdx(spoilt), 'tdx.quote-signature'],
    [
      'QE report signed by another key',
      tdx((d) => {
        d.signers.qeReport = other;
      }),
      'tdx.qe-report-signature',
    ],
    [
      'PCK chain under another root',
      tdx((d) => {
        d.certificates.pckCa.signer = other;
      }),
      'tdx.pck-path',
    ],
    [
      'TDX quote of other report data',
      tdx((d) => setTd(d, 'reportData', Uint8Array.of(1), 63)),
      'tdx.report-data',
    ],
    ['TDX quote of other events', tdx((d) => void d.runtimeEvents.pop()), 'tdx.rtmr3'],
    [
      'all-zero quote without a PCK certificate',
      tdx((d) => {
        const { reportData } = d;
        d.alterQuote = (bytes) => {
          // All but the header and the lengths.
          const quote = bytes.slice().fill(0, 48, 632).fill(0, 636, 764).fill(0, 770, 1218);
          quote.set(reportData, 48 + 520);
          return quote;
        };
        withoutPck(d);
      }),
      'tdx.qe-report-binding',
    ],
    [
      'quote without a PCK certificate, signed by another key',
      tdx((d) => {
        spoilt(d);
        withoutPck(d);
      }),
      'tdx.quote-signature',
    ],
    [
      'quote without a PCK certificate, of other report data',
      tdx((d) => {
        setTd(d, 'reportData', Uint8Array.of(1), 63);
        withoutPck(d);
      }),
      'tdx.report-data',
    ],
    [
      'report without certificates, of other report data',
      snp((d) => d.report.fill(1, SNP.reportData, SNP.reportData + 1)),
      'snp.report-data',
    ],
    [
      'report without certificates, of another document',
      snp((d) => d.report.fill(1, SNP.hostData, SNP.hostData + 1)),
      'snp.host-data',
    ],
    [
      'report without certificates, not of VMPL 0',
      snp((d) => d.report.fill(1, SNP.vmpl, SNP.vmpl + 1)),
      'snp.vmpl',
    ],
    [
      'enclave document with other user data',
      nitro((d) => void d.members.set('user_data', new Uint8Array(64))),
      'nitro.user-data',
    ],
    [
      'enclave document signed by another key',
      nitro((d) => {
        d.signer = keys('nsm-intermediate');
      }),
      'nitro.signature',
    ],
  ])('%s: asks nobody', async (_name, make, check) => {
    expect(await askedFor(make())).toEqual({ asked: [], result: check });
  });

  const flipped = (bytes: Uint8Array): Uint8Array => bytes.map((byte, at) => (at === 0 ? byte ^ 1 : byte));
  const badVtpms: [string, (draft: GcpDraft) => void, string][] = [
    ['signed by another key', (d) => Object.assign(d, { signer: other }), 'tpm.signature'],
    [
      'with a malformed signature',
      (d) => Object.assign(d, { alterSignature: (tpmt: Uint8Array) => tpmt.slice(1) }),
      'tpm.signature-form',
    ],
    [
      'for another TDX quote',
      (d) => Object.assign(d, { extraData: new Uint8Array(32) }),
      'tpm.qualifying-data',
    ],
    ['of other PCR values', (d) => Object.assign(d, { pcrDigest: new Uint8Array(32) }), 'tpm.pcr-digest'],
    [
      'without PCR 0',
      (d) => {
        d.pcrValues = d.pcrValues.filter(({ index }) => index !== 0);
        d.selections = [{ algorithm: 0x000b, pcrs: [2, 14] }];
      },
      'tpm.required-pcrs',
    ],
    ['with another event log', (d) => setPcr(d, 2, new Uint8Array(32).fill(9)), 'tpm.replay-pcr2'],
    ['of other runtime events', (d) => setPcr(d, 14, new Uint8Array(32).fill(9)), 'tpm.pcr14'],
    [
      'of unknown firmware',
      (d) => {
        d.eventLog = d.eventLog.filter(({ pcrIndex }) => pcrIndex !== 0);
        setPcr(d, 0, new Uint8Array(32).fill(9));
      },
      'image.pcr0',
    ],
    [
      'with one more boot application',
      (d) => setPcr2(d, (digests) => [...digests, new Uint8Array(32).fill(9)]),
      'image.pcr2-sequence',
    ],
    [
      'of another OS image',
      (d) => setPcr2(d, (digests) => digests.map((digest, at) => (at === 2 ? flipped(digest) : digest))),
      'image.gcp-tdx',
    ],
  ];

  it.each(badVtpms)('vTPM quote %s: asks nobody', async (_name, change, check) => {
    expect(await askedFor(gcp(change)())).toEqual({ asked: [], result: check });
    // Nor for the PCK certificate of a TDX quote that names it alone.
    const without = gcp((draft) => {
      withoutPck(draft.tdx);
      change(draft);
    });
    expect(await askedFor(without())).toEqual({ asked: [], result: check });
    // Nor for its own certificates, when Intel's answers are at hand.
    expect(await askedFor(gcp(change)(), {}, true)).toEqual({ asked: ['tdx'], result: check });
  });

  it.each<[string, () => Forged]>([
    ['bare TDX', tdx(() => undefined)],
    ['bare TDX without a PCK certificate', tdx(withoutPck)],
    ['TDX with a vTPM', gcp(() => undefined)],
    ['SEV-SNP', snp(() => undefined)],
    ['Nitro Enclaves', nitro(() => undefined)],
  ])('good evidence of %s that answers another challenge: asks nobody', async (_name, make) => {
    const expectedReportData = new Uint8Array(64).fill(9);
    const asked = { asked: [], result: 'report-data.expected' };
    expect(await askedFor(make(), { expectedReportData })).toEqual(asked);
    expect(await askedFor(make(), { ratlsSpki: other.spki })).toEqual({ asked: [], result: 'ratls.binding' });
  });

  it('debug enclave: asks nobody', async () => {
    const debug = nitro((d) => void d.pcrs.set(0, new Uint8Array(48)));
    expect(await askedFor(debug())).toEqual({ asked: [], result: 'nitro.debug' });
  });

  it('while good evidence is', async () => {
    expect((await askedFor(tdx(() => undefined)())).asked).toEqual(['tdx']);
    expect((await askedFor(gcp(() => undefined)())).asked).toEqual(['tdx', 'tpm']);
    expect((await askedFor(snp(() => undefined)())).asked).toEqual(['snp']);
    expect((await askedFor(tdx(withoutPck)())).asked).toEqual(['pck']);
  });
});

function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
