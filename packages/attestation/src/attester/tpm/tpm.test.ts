import { createHash, createPublicKey, verify } from 'node:crypto';
import { concatBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithSwtpm, type SoftwareTpm, startSwtpm } from '@dstack-cloud/test/swtpm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseTpmsAttest } from '../../tpm/tpms-attest.ts';
import { parseTpmtSignature } from '../../tpm/tpmt-signature.ts';
import { pcrPolicyDigest, policyDigest, policyPcr } from './pcr-policy.ts';
import { SaltedSession } from './salted-session.ts';
import { SEED_NV_INDEX } from './sealed-slots.ts';
import { storageKey } from './storage-key.ts';
import { Tpm, withTpm } from './tpm.ts';
import { tpmHandles, tpmIdentity, tpmPcrBanks } from './tpm-capabilities.ts';
import { createPrimary } from './tpm-keys.ts';
import { nvDefine, nvRead, nvReadPublic, nvUndefine, nvWrite } from './tpm-nv.ts';
import { extendPcr, readPcrs } from './tpm-pcr.ts';
import { tpmQuote } from './tpm-quote.ts';
import { tpmRandom } from './tpm-random.ts';

const ECC_AK = fromHex('0023000b00050072000000100018000b0003001000000000');
const RSA_AK = fromHex('0001000b00050072000000100014000b0800000000000000');
const sha256 = (...parts: Uint8Array[]) =>
  new Uint8Array(
    createHash('sha256')
      .update(concatBytes(...parts))
      .digest(),
  );

describeWithSwtpm('a software TPM', () => {
  let software: SoftwareTpm;
  beforeEach(async () => {
    software = await startSwtpm();
  });
  afterEach(() => software.stop());
  const use = <T>(body: (tpm: Tpm) => Promise<T>) => withTpm(software.location, body);

  test('says what it is', async () => {
    await use(async (tpm) => {
      expect((await tpmIdentity(tpm)).manufacturer).toBe('IBM ');
      expect(await tpmPcrBanks(tpm)).toEqual(expect.arrayContaining([0x000b, 0x000c]));
      await nvDefine(tpm, SEED_NV_INDEX, 8);
      expect(await tpmHandles(tpm, 0x01000000)).toContain(SEED_NV_INDEX);
    });
  });

  test('gives random bytes in any number', async () => {
    await use(async (tpm) => {
      for (const length of [0, 1, 48, 49, 200]) expect(await tpmRandom(tpm, length)).toHaveLength(length);
    });
  });

  test('extends one bank and reads all 24 PCRs, eight at a time', async () => {
    const digest = new Uint8Array(32).fill(7);
    await use(async (tpm) => {
      await extendPcr(tpm, 14, { sha256: digest });
      const all = await readPcrs(tpm, 'sha256', [...Array(24).keys()]);
      expect(all.map(({ index }) => index)).toEqual([...Array(24).keys()]);
      expect(all[14]!.value).toEqual(sha256(new Uint8Array(32), digest));
      expect(toHex((await readPcrs(tpm, 'sha384', [14]))[0]!.value)).toBe('00'.repeat(48));
      await expect(readPcrs(tpm, 'sha256', [24])).rejects.toMatchObject({ code: 'malformed' });
      await expect(extendPcr(tpm, 14, { sha384: digest })).rejects.toMatchObject({ code: 'malformed' });
    });
  });

  test('quotes after any number of power cuts, each of which it counts as a failed attempt', async () => {
    for (let cuts = 0; cuts < 6; cuts++) {
      await software.restart();
      await use(async (tpm) => {
        const { handle } = await createPrimary(tpm, 'endorsement', ECC_AK);
        await tpmQuote(tpm, handle, new Uint8Array(32), 'sha256', [0]);
      });
    }
  });

  test.each([
    ['ECC', ECC_AK],
    ['RSA', RSA_AK],
  ])('quotes with an %s attestation key, the same one every time', async (_, template) => {
    const qualifyingData = new Uint8Array(32).fill(3);
    const pcrs = [0, 2, 14];
    const { quote, publicArea, values } = await use(async (tpm) => {
      const key = await createPrimary(tpm, 'endorsement', template);
      const again = await createPrimary(tpm, 'endorsement', template);
      expect(again.publicArea).toEqual(key.publicArea);
      return {
        publicArea: key.publicArea,
        quote: await tpmQuote(tpm, key.handle, qualifyingData, 'sha256', pcrs),
        values: await readPcrs(tpm, 'sha256', pcrs),
      };
    });
    const attest = parseTpmsAttest(quote.message);
    expect(attest.extraData).toEqual(qualifyingData);
    expect(attest.selections).toEqual([{ algorithm: 0x000b, pcrs }]);
    expect(attest.pcrDigest).toEqual(sha256(...values.map(({ value }) => value)));
    const signature = parseTpmtSignature(quote.signature);
    const key = publicKey(publicArea);
    expect(verify('sha256', quote.message, { key, dsaEncoding: 'ieee-p1363' }, signature.bytes)).toBe(true);
  });

  test('keeps objects no longer than they are used', async () => {
    for (let i = 0; i < 5; i++) await use((tpm) => createPrimary(tpm, 'endorsement', ECC_AK));
    expect(await use((tpm) => tpmHandles(tpm, 0x80000000))).toEqual([]);
    const failed = use(async (tpm) => {
      await createPrimary(tpm, 'endorsement', ECC_AK);
      throw new TypeError('of the body');
    });
    await expect(failed).rejects.toThrow('of the body');
    expect(await use((tpm) => tpmHandles(tpm, 0x80000000))).toEqual([]);
  });

  test('stores and gives back NV data of several chunks', async () => {
    const index = 0x01801234;
    const data = new Uint8Array(1800).map((_, i) => i);
    await use(async (tpm) => {
      expect(await nvReadPublic(tpm, index)).toBeUndefined();
      expect(await nvRead(tpm, index)).toBeUndefined();
      await nvDefine(tpm, index, data.length);
      await nvWrite(tpm, index, data);
      expect(await nvRead(tpm, index)).toEqual(data);
      await nvUndefine(tpm, index);
      expect(await nvRead(tpm, index)).toBeUndefined();
    });
  });

  test('has nothing at an index that was defined and never written', async () => {
    await use(async (tpm) => {
      await nvDefine(tpm, 0x01801234, 40);
      expect(await nvRead(tpm, 0x01801234)).toBeUndefined();
    });
  });

  test('names the code of what it refuses', async () => {
    const refused = use((tpm) => nvUndefine(tpm, 0x01809999));
    await expect(refused).rejects.toMatchObject({ code: 'device', responseCode: 0x28b });
  });

  test('predicts the policy which a session reaches', async () => {
    await use(async (tpm) => {
      await extendPcr(tpm, 14, { sha256: new Uint8Array(32).fill(1) });
      const session = await SaltedSession.start(tpm, await storageKey(tpm), 'policy');
      await policyPcr(tpm, session.handle, 'sha256', [0, 2, 14]);
      const values = await readPcrs(tpm, 'sha256', [14, 0, 2]);
      expect(await policyDigest(tpm, session.handle)).toEqual(pcrPolicyDigest('sha256', values));
    });
  });
});

/** The key of a TPMT_PUBLIC of an attestation key. */
function publicKey(area: Uint8Array) {
  const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64url');
  if (area[1] === 1) {
    const jwk = { kty: 'RSA', n: base64(area.subarray(-256)), e: 'AQAB' };
    return createPublicKey({ key: jwk, format: 'jwk' });
  }
  const x = base64(area.subarray(-66, -34));
  const y = base64(area.subarray(-32));
  return createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' });
}

describe('a TPM that misbehaves', () => {
  const answering = (...responses: string[]) => {
    const sent: Uint8Array[] = [];
    const tpm = new Tpm({
      exchange: async (command) => {
        sent.push(command);
        return fromHex(responses[Math.min(sent.length, responses.length) - 1]!);
      },
      close: async () => {},
    });
    return { tpm, sent };
  };

  test.each(['00000922', '00000908', '0000090a', '00000920', '00000923'])(
    'is asked again after the warning %s',
    async (warning) => {
      const { tpm, sent } = answering(
        `80010000000a${warning}`,
        `80010000000a${warning}`,
        '80010000000e000000000002' + '0709',
      );
      expect(await tpmRandom(tpm, 2)).toEqual(Uint8Array.of(7, 9));
      expect(sent).toHaveLength(3);
    },
  );

  test('is not asked for ever', async () => {
    const { tpm, sent } = answering('80010000000a00000922');
    await expect(tpmRandom(tpm, 2)).rejects.toMatchObject({ responseCode: 0x922 });
    expect(sent.length).toBeLessThan(20);
  }, 20_000);

  test('in lockout that a password protects says what to do, at once', async () => {
    const { tpm, sent } = answering('80010000000a00000921', '80010000000a000009a2');
    await expect(tpmRandom(tpm, 2)).rejects.toThrow(/lockout; wait for its recovery time, or clear it/);
    expect(sent).toHaveLength(2);
  });

  test('that stays in lockout is not asked for ever', async () => {
    const { tpm, sent } = answering(
      '80010000000a00000921',
      '80020000001300000000' + '00000000' + '0000010000',
      '80010000000a00000921',
    );
    await expect(tpmRandom(tpm, 2)).rejects.toThrow(/lockout; wait/);
    expect(sent).toHaveLength(3);
  });

  test.each([
    ['a size that lies', '80010000000b00000000'],
    ['a response that is cut off', '800100000009000000'],
    ['another tag', '80020000000e0000000000020709'],
    ['too many bytes', '80010000000f00000000000207090a'],
    ['more than asked', '80010000000f0000000000030709aa'],
    ['nothing', '80010000000c000000000000'],
  ])('%s is an error', async (_, response) => {
    const { tpm } = answering(response);
    await expect(tpmRandom(tpm, 2)).rejects.toMatchObject({ name: expect.stringMatching(/Error$/) });
  });

  test('that is not there is named', async () => {
    const body = async () => 1;
    await expect(withTpm('unix:/nonexistent/tpm', body)).rejects.toMatchObject({ code: 'device' });
    await expect(withTpm('/nonexistent/tpm', body)).rejects.toMatchObject({ code: 'device' });
  });
});

test('the PCR policy of recorded evidence', () => {
  // pcrDigest and policy are those of the original for the three values of synthetic GCP evidence.
  const code = fromHex('0000017f');
  const selection = fromHex('00000001000b03054000');
  const pcrDigest = fromHex('a610a51f77eed6485c36b84eb02745151b130e9aed91ddae6d1e0d028107c538');
  expect(toHex(sha256(new Uint8Array(32), code, selection, pcrDigest))).toBe(
    'd64ce6b25ee775255cd8116f9c1c8ca36c5bc4de420e55ac52455619bf7d2dcb',
  );
  const values = [
    { index: 14, hex: '20b7acce35b4341de864ca2f55528956a746090ffb1a318da878a1d62d282e68' },
    { index: 0, hex: '0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802' },
    { index: 2, hex: '1f74355f18d9aab3a26faa060d2058726554207d040c63d25d501d97f5a41e0f' },
  ].map(({ index, hex }) => ({ index, value: fromHex(hex) }));
  expect(toHex(pcrPolicyDigest('sha256', values))).toBe(
    'd64ce6b25ee775255cd8116f9c1c8ca36c5bc4de420e55ac52455619bf7d2dcb',
  );
});
