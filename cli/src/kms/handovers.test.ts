import { auditKey, rootNames, signHandover } from '@dstack-cloud/audit-log';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, k256PublicKey } from '@dstack-cloud/keys';
import { describe, expect, test } from 'vitest';
import { checkHandover, readHandovers } from './handovers.ts';

const roots = [1, 2, 3].map((byte) => {
  const ca = generateP256Key();
  const k256 = new Uint8Array(32).fill(byte);
  return {
    k256,
    names: rootNames({ caScalar: ca.scalar, k256 }, ca.spki),
    signer: { rootKey: toHex(k256PublicKey(k256)), publicKey: k256PublicKey(auditKey(k256)) },
  };
});
const [a, b, c] = roots as [(typeof roots)[0], (typeof roots)[0], (typeof roots)[0]];
const answer = [
  [a, b],
  [b, c],
].map(([from, to]) => {
  const made = signHandover(from!.names, to!.names, from!.k256);
  return {
    old_ca_pubkey: toHex(made.from.caPubkey),
    old_k256_pubkey: toHex(made.from.k256Pubkey),
    old_audit_pubkey: toHex(made.from.auditPubkey),
    new_ca_pubkey: toHex(made.to.caPubkey),
    new_k256_pubkey: toHex(made.to.k256Pubkey),
    new_audit_pubkey: toHex(made.to.auditPubkey),
    signature: toHex(made.signature),
  };
});
const handovers = readHandovers(answer);

describe('the signer of an audit log', () => {
  test('stays, or follows from a trusted root or a signer seen before', () => {
    checkHandover([], a.signer, a.signer);
    checkHandover([], { rootKey: a.signer.rootKey }, a.signer);
    checkHandover(handovers, { rootKey: a.signer.rootKey }, c.signer);
    checkHandover(handovers, a.signer, c.signer);
    checkHandover(handovers, b.signer, c.signer);
  });

  test('is refused without a hand-over, from a later root, and with another audit key at either end', () => {
    const refuse = (...input: Parameters<typeof checkHandover>) =>
      expect(() => checkHandover(...input)).toThrow(expect.objectContaining({ code: 'proof-invalid' }));
    refuse([], a.signer, b.signer);
    refuse(handovers.slice(0, 1), a.signer, c.signer);
    refuse(handovers, c.signer, a.signer);
    refuse(handovers, { ...a.signer, publicKey: b.signer.publicKey }, c.signer);
    refuse(handovers, a.signer, { ...c.signer, publicKey: b.signer.publicKey });
    refuse([], a.signer, { ...a.signer, publicKey: b.signer.publicKey });
    refuse(
      readHandovers([{ ...answer[0], signature: answer[1]!.signature }]),
      { rootKey: a.signer.rootKey },
      b.signer,
    );
  });

  test('answers of another form are refused', () => {
    expect(readHandovers(undefined)).toEqual([]);
    for (const wrong of [
      'x',
      {},
      [{}],
      [{ ...answer[0], signature: '00' }],
      [{ ...answer[0], new_ca_pubkey: '' }],
    ]) {
      expect(() => readHandovers(wrong)).toThrow();
    }
  });
});
