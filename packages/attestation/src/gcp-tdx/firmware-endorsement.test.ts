import { constants, createSign, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { concatBytes, der, encodePem, fromHex, utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import type { TrustRoot } from '../roots/trust-roots.ts';
import { vendorRoots } from '../roots/vendor-roots.ts';
import { verifyContext } from '../verify.ts';
import { verifyFirmwareEndorsement } from './firmware-endorsement.ts';

const NOW = 1781524800;
const MRTD = new Uint8Array(48).fill(0xa5);
const rsa = () => generateKeyPairSync('rsa', { modulusLength: 2048 });

/** A length-delimited protobuf field. */
function field(number: number, value: Uint8Array): Uint8Array {
  const length: number[] = [];
  for (let rest = value.length; ; rest >>>= 7) {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    if (rest <= 0x7f) break;
  }
  return concatBytes(Uint8Array.of((number << 3) | 2, ...length), value);
}

function certificate(
  subject: string,
  issuer: string,
  key: KeyObject,
  signer: KeyObject,
  isCa: boolean,
  usage: number = isCa ? 0x06 : 0x80,
): Uint8Array {
  const name = (cn: string) => der.sequence(der.set(der.sequence(der.oid('2.5.4.3'), der.utf8String(cn))));
  const algorithm = der.sequence(der.oid('1.2.840.113549.1.1.11'), der.null());
  const extension = (oid: string, value: Uint8Array) =>
    der.sequence(der.oid(oid), der.boolean(true), der.octetString(value));
  const tbs = der.sequence(
    der.explicit(0, der.integer(2)),
    der.integer(7),
    algorithm,
    name(issuer),
    der.sequence(der.time(NOW - 3600), der.time(NOW + 3600)),
    name(subject),
    new Uint8Array(key.export({ type: 'spki', format: 'der' })),
    der.explicit(
      3,
      der.sequence(
        extension('2.5.29.19', isCa ? der.sequence(der.boolean(true)) : der.sequence()),
        extension('2.5.29.15', der.bitString(Uint8Array.of(usage), Math.log2(usage & -usage))),
      ),
    ),
  );
  const signature = new Uint8Array(createSign('sha256').update(tbs).sign(signer));
  return der.sequence(tbs, algorithm, der.bitString(signature));
}

const root = rsa();
const leaf = rsa();
const rootDer = certificate('root', 'root', root.publicKey, root.privateKey, true);
const signer = (name: string, isCa = false, usage?: number): Uint8Array =>
  certificate(name, 'root', leaf.publicKey, root.privateKey, isCa, usage);
const leafDer = signer('GCE-uefi-signer');
const anchors: TrustRoot[] = [{ name: 'test', der: rootDer, simulated: true }];

function endorsement(
  mrTds: readonly Uint8Array[],
  change: (golden: Uint8Array) => Uint8Array = (g) => g,
  signer = leafDer,
): Uint8Array {
  const measurements = mrTds.map((mrTd) => field(2, concatBytes(Uint8Array.of(8, 16), field(3, mrTd))));
  const golden = concatBytes(
    field(4, signer),
    field(6, utf8(encodePem('CERTIFICATE', rootDer))),
    field(8, concatBytes(Uint8Array.of(8, 1), ...measurements)),
  );
  const signature = createSign('sha256')
    .update(golden)
    .sign({ key: leaf.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 });
  return concatBytes(field(1, change(golden)), field(2, new Uint8Array(signature)));
}

const context = (now = NOW) =>
  verifyContext({
    roots: vendorRoots(),
    collateral: { tdx: () => Promise.reject(new Error('unused')) },
    now,
  });

describe('Google firmware endorsement', () => {
  it('accepts an MRTD on the signed list', async () => {
    const signed = endorsement([fromHex('11'.repeat(48)), MRTD]);
    const judged = context();
    await verifyFirmwareEndorsement(signed, MRTD, judged, anchors);
    expect(judged.checks.checks.map((check) => check.id)).toContain('gcp.endorsed-mrtd');
  });

  it.each([
    ['no endorsement', undefined, 'gcp.firmware-endorsement', 'collateral-unavailable'],
    ['another MRTD', endorsement([new Uint8Array(48)]), 'gcp.endorsed-mrtd', 'image'],
    ['an empty list', endorsement([]), 'gcp.endorsed-mrtd', 'image'],
    [
      'an MRTD added after signing',
      endorsement([new Uint8Array(48)], (g) => concatBytes(g, field(8, field(2, field(3, MRTD))))),
      'gcp.endorsement-signature',
      'signature-invalid',
    ],
    ['no protobuf', utf8('noise'), 'gcp.endorsement-form', 'malformed'],
    ['an endless number', new Uint8Array(64).fill(0xff), 'gcp.endorsement-form', 'malformed'],
  ])('refuses %s', async (_name, bytes, check, code) => {
    await expect(verifyFirmwareEndorsement(bytes, MRTD, context(), anchors)).rejects.toMatchObject({
      check,
      code,
    });
  });

  it.each([
    ['the signer of another component', signer('GCE-svsm-signer'), 'gcp.endorsement-signer'],
    ['a certificate that deciphers', signer('GCE-uefi-signer', false, 0x20), 'gcp.endorsement-signer'],
    ['a CA', signer('GCE-uefi-signer', true), 'gcp.endorsement-chain'],
    ['the root', rootDer, 'gcp.endorsement-chain'],
  ])('refuses one that %s signed', async (_name, der, check) => {
    const signed = endorsement([MRTD], undefined, der);
    await expect(verifyFirmwareEndorsement(signed, MRTD, context(), anchors)).rejects.toMatchObject({
      check,
      code: 'chain-invalid',
    });
  });

  it('trusts no root but Google own one by itself', async () => {
    await expect(verifyFirmwareEndorsement(endorsement([MRTD]), MRTD, context())).rejects.toMatchObject({
      check: 'gcp.endorsement-chain',
    });
  });

  it('refuses an endorsement whose certificate has expired', async () => {
    await expect(
      verifyFirmwareEndorsement(endorsement([MRTD]), MRTD, context(NOW + 3601), anchors),
    ).rejects.toMatchObject({ code: 'expired' });
  });
});
