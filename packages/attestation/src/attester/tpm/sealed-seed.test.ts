import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { concatBytes, fromHex, toHex } from '@dstack-cloud/encoding';
import { describeWithSwtpm, type SoftwareTpm, startSwtpm } from '@dstack-cloud/test/swtpm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { approvalPolicyDigest, policyOrDigest } from './approval-policy.ts';
import { pcrPolicyDigest, SEALING_PCRS } from './pcr-policy.ts';
import { SaltedSession } from './salted-session.ts';
import { approvalReference, approvedBytes, type SealApproval } from './seal-approval.ts';
import type { SealedBlob } from './sealed-blob.ts';
import { openSealedSeed, presentPolicy, type SealedSeedOptions } from './sealed-seed.ts';
import { readSeals, SEED_NV_INDEX, SEED_NV_SPARE, writeSeal } from './sealed-slots.ts';
import { STORAGE_KEY_HANDLE, storageKey } from './storage-key.ts';
import { Tpm, withTpm } from './tpm.ts';
import { tpmHandles } from './tpm-capabilities.ts';
import { createPrimary, createSealed, evictControl } from './tpm-keys.ts';
import { nvDefine, nvRead, nvReadPublic, nvUndefine, nvWrite } from './tpm-nv.ts';
import { extendPcr, type PcrReading } from './tpm-pcr.ts';
import { pcrSelection, tpm2b } from './tpm-structures.ts';
import { openTpmTransport, type TpmTransport } from './tpm-transport.ts';

const sha256 = (...parts: Uint8Array[]) =>
  new Uint8Array(
    createHash('sha256')
      .update(concatBytes(...parts))
      .digest(),
  );
const digestOf = (system: string) => new Uint8Array(createHash('sha256').update(system).digest());

interface Owner {
  readonly approver: Uint8Array;
  readonly key: KeyObject;
}

function owner(): Owner {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { approver: new Uint8Array(publicKey.export({ format: 'der', type: 'spki' })), key: privateKey };
}

function approve({ key }: Owner, policy: Uint8Array, number: number): SealApproval {
  const { message } = approvedBytes({ policy, number });
  const signature = new Uint8Array(sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' }));
  return { policy, number, signature };
}

describeWithSwtpm('a sealed seed', () => {
  let software: SoftwareTpm;
  beforeEach(async () => {
    software = await startSwtpm();
  });
  afterEach(() => software.stop());
  const use = <T>(body: (tpm: Tpm) => Promise<T>) => withTpm(software.location, body);
  const open = (options: SealedSeedOptions = {}) => use((tpm) => openSealedSeed(tpm, options));
  /** A machine that boots this system: what its firmware and its guest measure is in the registers. */
  const boot = async (system: string, register = 14): Promise<Uint8Array> => {
    await software.restart();
    return await use(async (tpm) => {
      await extendPcr(tpm, register, { sha256: digestOf(system) });
      return (await presentPolicy(tpm)).policy;
    });
  };

  test('comes back for the same registers, also after a restart', async () => {
    const first = await open();
    expect(first).toMatchObject({ how: 'created', number: 1 });
    expect(first.seed).toHaveLength(32);
    expect(await open()).toEqual({ seed: first.seed, how: 'opened', number: 1 });
    await software.restart();
    expect(await open()).toEqual({ seed: first.seed, how: 'opened', number: 1 });
  });

  test.each([
    ['application', 14],
    ['additions of the boot stub', 12],
    ['system extensions', 13],
    ['boot applications', 4],
    ['boot components', 2],
    ['firmware', 0],
  ])(
    'is not released to a system of other %s, which is named, and is not replaced',
    async (what, register) => {
      const { seed } = await open();
      await use((tpm) => extendPcr(tpm, register, { sha256: new Uint8Array(32) }));
      for (let i = 0; i < 2; i++) {
        await expect(open()).rejects.toMatchObject({
          code: 'mismatch',
          message: expect.stringContaining(`PCR ${register} (${what}) was ${'00'.repeat(32)} and is `),
        });
      }
      await software.restart();
      expect((await open()).seed).toEqual(seed);
    },
  );

  test('is not made again over bytes that are no seal', async () => {
    await use(async (tpm) => {
      await nvDefine(tpm, SEED_NV_INDEX, 40);
      await nvWrite(tpm, SEED_NV_INDEX, new Uint8Array(40).fill(0xff));
    });
    for (let i = 0; i < 2; i++)
      await expect(open()).rejects.toMatchObject({
        code: 'malformed',
        message: expect.stringContaining('tpm2_nvundefine 0x01801101'),
      });
  });

  test('is not sealed under a key that somebody put in the place of ours', async () => {
    await use(async (tpm) => {
      const foreign = fromHex('0001000b00030072000000060080004300100800000000000000');
      const { handle } = await createPrimary(tpm, 'owner', foreign);
      await evictControl(tpm, handle, STORAGE_KEY_HANDLE);
    });
    await expect(open()).rejects.toThrow('is no storage key of dstack');
  });

  test('and its unsealed value never travel in the clear', async () => {
    const transport = await openTpmTransport(software.location, 5000);
    const traffic: Uint8Array[] = [];
    const tpm = new Tpm({
      exchange: async (command) => {
        const response = await transport.exchange(command);
        traffic.push(command.slice(), response.slice());
        return response;
      },
      close: () => transport.close(),
    });
    const { seed } = await openSealedSeed(tpm);
    expect((await openSealedSeed(tpm)).seed).toEqual(seed);
    await tpm.close();
    expect(traffic.map(toHex).join(' ')).not.toContain(toHex(seed));
  });

  test('in a response that was changed on the bus is refused', async () => {
    await open();
    const transport = await openTpmTransport(software.location, 5000);
    const tpm = new Tpm({
      exchange: async (command) => {
        const response = await transport.exchange(command);
        // TPM2_Unseal: flip a bit of the encrypted data.
        if (toHex(command.subarray(6, 10)) === '0000015e') response[20] = response[20]! ^ 1;
        return response;
      },
      close: () => transport.close(),
    });
    await expect(openSealedSeed(tpm)).rejects.toThrow('is not signed with the session key');
    await tpm.close();
  });

  test('comes back after any number of power cuts, which a TPM takes for failed attempts', async () => {
    const { seed } = await open();
    for (let cuts = 0; cuts < 6; cuts++) {
      await software.restart();
      expect((await open()).seed).toEqual(seed);
    }
  });

  test('of a TPM in lockout is refused with what to do, and stays', async () => {
    const { seed } = await open();
    const transport = await openTpmTransport(software.location, 5000);
    const tpm = new Tpm({
      exchange: async (command) =>
        toHex(command.subarray(6, 10)) === '00000157'
          ? fromHex('80010000000a00000921')
          : await transport.exchange(command),
      close: () => transport.close(),
    });
    await expect(openSealedSeed(tpm)).rejects.toThrow(/lockout; wait for its recovery time/);
    await tpm.close();
    expect((await open()).seed).toEqual(seed);
  });

  describe('and another system', () => {
    const theirs = owner();

    test('get together by an approval, once; the system before is out', async () => {
      await boot('one');
      const { seed } = await open({ approver: theirs.approver });
      const policy = await boot('two');
      const options = { approver: theirs.approver, approval: approve(theirs, policy, 2) };
      expect(await open(options)).toEqual({ seed, how: 'resealed', number: 2 });
      expect(await open(options)).toEqual({ seed, how: 'opened', number: 2 });
      await boot('two');
      expect(await open()).toEqual({ seed, how: 'opened', number: 2 });
      // The approval of the first step does not lead back, nor does one for the earlier seal.
      const back = await boot('one');
      await expect(open(options)).rejects.toThrow('each serves once');
      const { approver } = theirs;
      const again = open({ approver, approval: approve(theirs, back, 2) });
      await expect(again).rejects.toThrow('each serves once');
      expect(await use((tpm) => tpmHandles(tpm, 0x01000000))).not.toContain(SEED_NV_INDEX);
      expect(await open({ approver, approval: approve(theirs, back, 3) })).toEqual({
        seed,
        how: 'resealed',
        number: 3,
      });
      expect(await use((tpm) => tpmHandles(tpm, 0x01000000))).not.toContain(SEED_NV_SPARE);
    });

    test.each<[string, (policy: Uint8Array) => SealApproval | undefined, string]>([
      ['no approval', () => undefined, 'there is no approval for this system'],
      ['an approval of somebody else', (policy) => approve(owner(), policy, 2), 'is not signed by the key'],
      ['an approval of another system', () => approve(theirs, digestOf('x'), 2), 'is for another system'],
      ['an approval for a later seal', (policy) => approve(theirs, policy, 3), 'has another number'],
    ])('stay apart with %s', async (_, approvalFor, reason) => {
      await boot('one');
      const { seed } = await open({ approver: theirs.approver });
      const policy = await boot('two');
      const approval = approvalFor(policy);
      // What the system that asks names as approver says nothing: the seal's own counts.
      const refused = open({ approver: owner().approver, ...(approval && { approval }) });
      await expect(refused).rejects.toMatchObject({
        code: 'mismatch',
        message: expect.stringContaining(reason),
        expected: `approval 2 of policy ${toHex(policy)}`,
      });
      await boot('one');
      expect(await open()).toEqual({ seed, how: 'opened', number: 1 });
    });

    test.each([
      ['another key', owner().approver],
      ['no key', undefined],
    ])('stay apart where the application names %s for approvals', async (_, approver) => {
      await boot('one');
      const { seed } = await open({ approver: theirs.approver });
      const approval = approve(theirs, await boot('two'), 2);
      await expect(open({ approval, ...(approver && { approver }) })).rejects.toMatchObject({
        code: 'mismatch',
        message: expect.stringContaining('names another key than this application'),
      });
      await boot('one');
      expect((await open()).seed).toEqual(seed);
    });

    test('stay apart where the seal names no approver', async () => {
      await open();
      const policy = await boot('two');
      const asked = open({ approver: theirs.approver, approval: approve(theirs, policy, 2) });
      await expect(asked).rejects.toThrow('without a key that could approve another system');
    });

    test.each<[string, (stored: Uint8Array, policy: Uint8Array) => Uint8Array]>([
      ['the approver', (stored) => replace(stored, theirs.approver, intruder.approver)],
      ['the number', (stored) => withNumber(stored, 7)],
    ])('stay apart when %s in NV memory is changed: the TPM decides', async (_, change) => {
      await boot('one');
      const { seed } = await open({ approver: theirs.approver });
      const original = (await use((tpm) => nvRead(tpm, SEED_NV_INDEX)))!;
      const policy = await boot('two');
      await rewrite(withChecksum(change(original, policy)));
      for (const approval of [approve(intruder, policy, 2), approve(theirs, policy, 8)])
        await expect(open({ approval })).rejects.toMatchObject({
          code: expect.stringMatching(/mismatch|device/),
        });
      await boot('one');
      await rewrite(original);
      expect((await open()).seed).toEqual(seed);
    });
    const intruder = owner();
    const rewrite = (bytes: Uint8Array) =>
      use(async (tpm) => {
        await nvUndefine(tpm, SEED_NV_INDEX);
        await nvDefine(tpm, SEED_NV_INDEX, bytes.length);
        await nvWrite(tpm, SEED_NV_INDEX, bytes);
      });
  });

  describe('that somebody else left', () => {
    const known = new Uint8Array(32).fill(0x41);
    const zero = (indices: readonly number[]) =>
      indices.map((index) => ({ index, value: new Uint8Array(32) }));
    /** A system that ran on this TPM before, as its root: it makes a seal of a seed that it knows, bound as it likes. */
    const plant = async (bound: readonly PcrReading[], change: Partial<SealedBlob> = {}): Promise<void> => {
      await use(async (tpm) => {
        await extendPcr(tpm, 4, { sha256: digestOf('another system') });
        const key = await storageKey(tpm);
        const { approver = new Uint8Array() } = change;
        const registers = pcrPolicyDigest('sha256', bound);
        const policy =
          approver.length === 0
            ? registers
            : policyOrDigest([registers, approvalPolicyDigest(approver, approvalReference(2))]);
        const prefix = fromHex('0008000b00000092');
        const template = concatBytes(prefix, tpm2b(policy), fromHex('00100000'));
        const session = await SaltedSession.start(tpm, key, 'encrypt-command');
        const selection = pcrSelection('sha256', SEALING_PCRS);
        const areas = await createSealed(tpm, key, template, known, session, selection);
        const creationData = change.creationData ?? areas.creationData;
        await writeSeal(tpm, { approver, number: 1, pcrs: bound, ...areas, ...change, creationData });
      });
    };

    test.each<[string, () => Promise<void>, string]>([
      ['to a register that is always zero', () => plant(zero([23])), 'bound to other registers'],
      ['to the registers that the victim will have', () => plant(zero(SEALING_PCRS)), 'with other registers'],
      [
        'with creation data of the victim’s registers',
        async () => {
          const made = await use(async (tpm) => {
            await openSealedSeed(tpm);
            const { blob } = (await readSeals(tpm))[0]!;
            await nvUndefine(tpm, SEED_NV_INDEX);
            return blob;
          });
          await plant(zero(SEALING_PCRS), { creationData: made.creationData });
        },
        'the TPM has not made it so',
      ],
      [
        'without a ticket',
        () => plant(zero(SEALING_PCRS), { creationTicket: new Uint8Array() }),
        'creation data cannot be read',
      ],
    ])('is refused when it is bound %s', async (_, planting, why) => {
      await planting();
      await software.restart();
      for (let i = 0; i < 2; i++)
        await expect(open()).rejects.toMatchObject({
          code: 'mismatch',
          message: expect.stringContaining(why),
          check: 'tpm.seal',
        });
    });

    test('is not approved by the key that it names itself', async () => {
      const intruder = owner();
      const own = { index: 4, value: sha256(new Uint8Array(32), digestOf('another system')) };
      const bound = zero(SEALING_PCRS).map((one) => (one.index === 4 ? own : one));
      await plant(bound, { approver: intruder.approver });
      const policy = await boot('honest');
      const approval = approve(intruder, policy, 2);
      for (const approver of [undefined, owner().approver])
        await expect(open({ approval, ...(approver && { approver }) })).rejects.toThrow(
          'names another key than this application',
        );
      // It is only the application's key that keeps it out: the TPM would give it.
      expect((await open({ approval, approver: intruder.approver })).seed).toEqual(known);
    });
  });

  test('survives a power cut at every command of its making and of its re-sealing', async () => {
    const theirs = owner();
    const { approver } = theirs;
    const cut = async (at: number, after: boolean, options: SealedSeedOptions): Promise<boolean> => {
      const transport = await openTpmTransport(software.location, 5000);
      const tpm = new Tpm(cutAt(transport, at, after));
      try {
        await openSealedSeed(tpm, options);
        return true;
      } catch (error) {
        expect((error as Error).message).toBe('power cut');
        return false;
      } finally {
        await transport.close();
      }
    };
    // Until the seed was handed out nothing is encrypted with it: a cut may only not leave a machine that never boots.
    await boot('one');
    for (let at = 0, whole = false; !whole; at++) {
      whole = await cut(at, at % 2 === 1, { approver });
      await boot('one');
      if (whole) continue;
      await open({ approver });
      await use(async (tpm) => {
        for (const index of [SEED_NV_INDEX, SEED_NV_SPARE])
          if (await nvReadPublic(tpm, index)) await nvUndefine(tpm, index);
      });
    }
    const { seed } = await open({ approver });
    // From now on the seed must never be lost, and always belong to one of the two systems.
    let [present, next] = ['one', 'two'];
    for (let at = 0, whole = false; !whole; at++) {
      const policy = await boot(next);
      const { number } = (await use(readSeals))[0]!.blob;
      const options = { approver, approval: approve(theirs, policy, number + 1) };
      whole = await cut(at, at % 2 === 1, options);
      await boot(next);
      const opened = await open(options);
      expect(opened.seed).toEqual(seed);
      expect(opened.number).toBe(number + 1);
      expect(await use(readSeals)).toHaveLength(1);
      [present, next] = [next, present];
    }
    expect(await use((tpm) => tpmHandles(tpm, 0x80000000))).toEqual([]);
  }, 120_000);
});

/** Fails at one command: before it reaches the TPM, or after the TPM has done it. */
function cutAt(transport: TpmTransport, at: number, after: boolean): TpmTransport {
  let count = 0;
  let dead = false;
  return {
    exchange: async (command) => {
      if (dead) throw new Error('power cut');
      dead = count++ === at;
      if (dead && after) await transport.exchange(command);
      if (dead) throw new Error('power cut');
      return await transport.exchange(command);
    },
    close: async () => undefined,
  };
}

function replace(bytes: Uint8Array, from: Uint8Array, to: Uint8Array): Uint8Array {
  return fromHex(toHex(bytes).replace(toHex(from), toHex(to)));
}

/** The number stands after the two areas, each with a length of two bytes, and the byte of the form. */
function withNumber(bytes: Uint8Array, number: number): Uint8Array {
  const out = bytes.slice();
  const view = new DataView(out.buffer);
  const first = 2 + (view.getUint16(0, true) >> 2);
  const second = 2 + (view.getUint16(first, true) >> 2);
  view.setUint32(first + second + 1, number, true);
  return out;
}

function withChecksum(bytes: Uint8Array): Uint8Array {
  const body = bytes.subarray(0, -32);
  return new Uint8Array([...body, ...createHash('sha256').update(body).digest()]);
}
