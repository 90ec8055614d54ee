import { concatBytes, fromHex } from '@dstack-cloud/encoding';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { sha256 } from '@noble/hashes/sha2.js';
import { expect, it } from 'vitest';
import type { TpmQuote } from '../attestation.ts';
import { loadMock, MOCK, signMock, verifyMock } from '../testing/mock-set.fixture.ts';

describeWithFixtures('vTPM quotes signed again', `${MOCK}/expected.json`, () => {
  const [attestation, quote] = loadMock('gcp-good', 'dstack-gcp-tdx');
  const signed = (message: Uint8Array): Uint8Array => {
    const signature = signMock('p256', 'tpm-ak', message);
    const part = (bytes: Uint8Array) => concatBytes(Uint8Array.of(0, bytes.length), bytes);
    return concatBytes(fromHex('0018000b'), part(signature.slice(0, 32)), part(signature.slice(32)));
  };
  const changed = (change: Partial<TpmQuote>, message?: Uint8Array) =>
    verifyMock(attestation, {
      ...quote,
      tpmQuote: { ...quote.tpmQuote, ...change, ...(message ? { message, signature: signed(message) } : {}) },
    });
  const { message, pcrValues, eventLog } = quote.tpmQuote;
  const edit = (at: number, value: number): Uint8Array => {
    const out = message.slice();
    out[at < 0 ? out.length + at : at] = value;
    return out;
  };
  const digestOf = (values: TpmQuote['pcrValues']): Uint8Array => {
    const out = message.slice();
    out.set(sha256(concatBytes(...values.map(({ value }) => value))), out.length - 32);
    return out;
  };
  const withPcr = (index: number, value: Uint8Array): TpmQuote['pcrValues'] =>
    pcrValues.map((entry) => (entry.index === index ? { ...entry, value } : entry));
  /** PCR 2 with another log, consistent in itself. */
  const withPcr2 = (digests: readonly Uint8Array[]) => {
    let register: Uint8Array = new Uint8Array(32);
    for (const digest of digests) register = sha256(concatBytes(register, digest));
    const values = withPcr(2, register);
    const others = eventLog.filter((event) => event.pcrIndex !== 2);
    const log = [...others, ...digests.map((digest) => ({ pcrIndex: 2, digest }))];
    return changed({ pcrValues: values, eventLog: log }, digestOf(values));
  };
  const pcr2 = eventLog.filter((event) => event.pcrIndex === 2).map((event) => event.digest);

  it('accepts the same quote', async () => {
    await changed({}, message);
    await withPcr2(pcr2);
  });

  it.each<[string, () => Promise<unknown>, string]>([
    ['a byte after the quote', () => changed({}, concatBytes(message, Uint8Array.of(0))), 'tpm.attest'],
    ['a quote cut short', () => changed({}, message.slice(0, -1)), 'tpm.attest'],
    ['other qualifying data', () => changed({}, edit(50, 0)), 'tpm.qualifying-data'],
    [
      'an unknown PCR 0',
      () => {
        const values = withPcr(0, new Uint8Array(32).fill(1));
        const log = eventLog.filter((event) => event.pcrIndex !== 0);
        return changed({ pcrValues: values, eventLog: log }, digestOf(values));
      },
      'image.pcr0',
    ],
    [
      'PCR 0 that its log does not replay to',
      () => {
        const values = withPcr(0, new Uint8Array(32).fill(1));
        return changed({ pcrValues: values }, digestOf(values));
      },
      'tpm.replay-pcr0',
    ],
    [
      'a value of another bank',
      () => changed({ pcrValues: pcrValues.map((entry) => ({ ...entry, algorithm: 'sha1' })) }),
      'tpm.pcr-algorithm',
    ],
    ['a short value', () => changed({ pcrValues: withPcr(14, new Uint8Array(20)) }), 'tpm.pcr-values'],
    ['values in another order', () => changed({ pcrValues: [...pcrValues].reverse() }), 'tpm.selection'],
    ['no PCR 14', () => changed({ pcrValues: pcrValues.slice(0, 2) }), 'tpm.required-pcrs'],
    [
      'a signature with SHA-1',
      () => changed({ signature: concatBytes(fromHex('00180004'), quote.tpmQuote.signature.slice(4)) }),
      'tpm.signature-form',
    ],
    [
      'an RSA signature of an ECC key',
      () => changed({ signature: concatBytes(fromHex('0014000b0020'), new Uint8Array(32)) }),
      'tpm.signature',
    ],
    ['no signature', () => changed({ signature: new Uint8Array() }), 'tpm.signature-form'],
    ['no kernel after the UKI', () => withPcr2(pcr2.slice(0, 3)), 'image.pcr2-sequence'],
    ['a second separator', () => withPcr2([pcr2[0]!, pcr2[0]!, ...pcr2.slice(2)]), 'image.pcr2-sequence'],
    ['no separator', () => withPcr2([pcr2[1]!, pcr2[1]!, ...pcr2.slice(2)]), 'image.pcr2-sequence'],
    ['another UKI in front', () => withPcr2([pcr2[0]!, pcr2[1]!, pcr2[3]!, pcr2[2]!]), 'image.gcp-tdx'],
    ['an event too many', () => withPcr2([...pcr2, pcr2[3]!]), 'image.pcr2-sequence'],
  ])('refuses %s', async (_name, run, check) => {
    await expect(run()).rejects.toMatchObject({ check });
  });
});
