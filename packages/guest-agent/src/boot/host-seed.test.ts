/** Key provider `local`: what a guest takes from the key provider enclave of its host, and what it refuses. */
import { createHash } from 'node:crypto';
import { type CollateralSource, vendorRoots, withTdxRoot } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { sealBox } from '@dstack-cloud/keys';
import type { PrpcTransport } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import { createPlatform, sealingKeyFor, simulatedBoot } from '@dstack-cloud/tee-simulator';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { GuestError } from '../errors.ts';
import { type HostSeed, seedFromHost } from './host-seed.ts';

const SEED = new Uint8Array(32).fill(7);
const platform = createPlatform(SEED, { machine: 'guest' });
const boot = simulatedBoot({ image: 'dstack-test' });
const now = () => Math.floor(Date.now() / 1000);
const roots = withTdxRoot(vendorRoots(), platform.rootDer);

interface Answer {
  encryptedKey: Uint8Array;
  providerQuote: Uint8Array;
}

/** A TD that has measured this much. */
function device(rtmr3 = new Uint8Array(48)): EvidenceDevice {
  return {
    mode: 'dstack-tdx',
    attest: async (reportData) => ({
      quote: {
        mode: 'dstack-tdx',
        quote: platform.quote(reportData, { mrTd: boot.mrTd, rtmrs: [...boot.rtmrs, rtmr3] }),
        eventLog: [],
      },
      runtimeEvents: [],
      reportData,
      config: '',
    }),
    emitEvent: async () => undefined,
    events: async () => [],
  };
}

/** A host that asks its key provider, and changes what it answers. */
function host(
  change: (honest: Answer, quote: Uint8Array) => Answer | Promise<Answer> = (honest) => honest,
): PrpcTransport {
  return {
    call: async ({ method, body }) => {
      expect(method).toBe('GetSealingKey');
      const quote = fromHex((JSON.parse(new TextDecoder().decode(body)) as { quote: string }).quote);
      const { encryptedKey, providerQuote } = await change(await sealingKeyFor(quote, SEED), quote);
      const answer = { encrypted_key: toHex(encryptedKey), provider_quote: toHex(providerQuote) };
      return { status: 200, body: utf8(JSON.stringify(answer)) };
    },
    close: () => undefined,
  };
}

const ask = (
  from: PrpcTransport | undefined,
  options: { device?: EvidenceDevice; collateral?: CollateralSource } = {},
) =>
  seedFromHost({
    host: from,
    device: options.device ?? device(),
    trust: { roots, collateral: options.collateral ?? platform.collateralSource(now) },
    log: pino({ level: 'silent' }),
  });

const refusal = async (asked: Promise<HostSeed>): Promise<GuestError> => {
  const error = await asked.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GuestError);
  return error as GuestError;
};

const enclave = { mrEnclave: new Uint8Array(32).fill(9) };
const earlier = platform.quote(new Uint8Array(64).fill(9, 0, 32), {
  mrTd: boot.mrTd,
  rtmrs: [...boot.rtmrs, new Uint8Array(48)],
});
const publicKeyOf = (quote: Uint8Array) => quote.slice(568, 600);
/** Report data of an SGX quote: the last field of the report after the header of 48 bytes. */
const reportDataOf = (sgxQuote: Uint8Array) => sgxQuote.slice(48 + 320, 48 + 384);
/** A genuine quote for whatever the host wants. */
const signed = (encryptedKey: Uint8Array): Answer => {
  const reportData = new Uint8Array(64);
  reportData.set(createHash('sha256').update(encryptedKey).digest());
  return { encryptedKey, providerQuote: platform.enclaveQuote(reportData, enclave) };
};

describe('key provider local', () => {
  it('gives a measured TD the same seed every time, and another TD another one', async () => {
    const { seed, mrEnclave } = await ask(host());
    expect(seed).toHaveLength(32);
    expect(mrEnclave).toHaveLength(32);
    expect(await ask(host())).toEqual({ seed, mrEnclave });
    const other = await ask(host(), { device: device(new Uint8Array(48).fill(1)) });
    expect([toHex(other.mrEnclave), toHex(other.seed) === toHex(seed)]).toEqual([toHex(mrEnclave), false]);
  });

  it.each<[string, Parameters<typeof host>[0], RegExp]>([
    [
      'a key that the host sealed itself',
      (honest, quote) => ({ ...honest, encryptedKey: sealBox(new Uint8Array(32), publicKeyOf(quote)) }),
      /is not for the key that came with it/,
    ],
    [
      'the key of an earlier boot, sealed to another public key',
      async () => await sealingKeyFor(earlier, SEED),
      /was not made for this key/,
    ],
    [
      'a quote with one bit changed',
      (honest) => {
        const providerQuote = honest.providerQuote.slice();
        providerQuote[100]! ^= 1;
        return { ...honest, providerQuote };
      },
      /is not signed by its attestation key/,
    ],
    [
      'a quote of an enclave in debug mode',
      ({ encryptedKey, providerQuote }) => ({
        encryptedKey,
        providerQuote: platform.enclaveQuote(reportDataOf(providerQuote), { ...enclave, debug: true }),
      }),
      /debug mode/,
    ],
    [
      'a quote of other hardware',
      ({ encryptedKey, providerQuote }) => ({
        encryptedKey,
        providerQuote: createPlatform(new Uint8Array(32).fill(8)).enclaveQuote(
          reportDataOf(providerQuote),
          enclave,
        ),
      }),
      /signature of the certificate is wrong/,
    ],
    [
      'the quote of a TD instead of an enclave',
      async ({ encryptedKey, providerQuote }) => ({
        encryptedKey,
        providerQuote: platform.quote(reportDataOf(providerQuote), {
          mrTd: boot.mrTd,
          rtmrs: [...boot.rtmrs, new Uint8Array(48)],
        }),
      }),
      /is of no SGX enclave/,
    ],
    [
      'a key of another length',
      (_, quote) => signed(sealBox(new Uint8Array(31), publicKeyOf(quote))),
      /no key of 32 bytes/,
    ],
    [
      'a box that holds more than a key ever needs',
      (_, quote) => signed(sealBox(new Uint8Array(4096), publicKeyOf(quote))),
      /A sealed key of 4144 bytes/,
    ],
    ['nothing', () => ({ encryptedKey: new Uint8Array(), providerQuote: new Uint8Array() }), /Quote/],
  ])('refuses %s', async (_, change, reason) => {
    const error = await refusal(ask(host(change)));
    expect([error.code, errorChain(error)]).toEqual(['key-provider-failed', expect.stringMatching(reason)]);
  });

  it.each(['encryptedKey', 'providerQuote'] as const)('refuses %s cut off anywhere', async (part) => {
    for (const share of [0.1, 0.5, 0.9, 0.999]) {
      const change = (honest: Answer) => ({
        ...honest,
        [part]: honest[part].subarray(0, Math.floor(honest[part].length * share)),
      });
      expect((await refusal(ask(host(change)))).code).toBe('key-provider-failed');
    }
  });

  it('refuses a provider whose machine is revoked, or of which nothing can be learned', async () => {
    const revoked = platform.collateralSource(now, { tcbStatus: 'Revoked' });
    expect(errorChain(await refusal(ask(host(), { collateral: revoked })))).toMatch(/revoked/);
    const nothing: CollateralSource = { tdx: () => Promise.reject(new Error('no network')) };
    await expect(ask(host(), { collateral: nothing })).rejects.toMatchObject({ code: 'key-provider-failed' });
  });

  it('needs a host API and TDX, and says what the host says', async () => {
    expect((await refusal(ask(undefined))).code).toBe('key-provider-unsupported');
    const google = { ...device(), mode: 'dstack-gcp-tdx' } as EvidenceDevice;
    expect((await refusal(ask(host(), { device: google }))).code).toBe('key-provider-unsupported');
    const said = utf8('{"error":"This host has no local key provider"}');
    const without = { ...host(), call: async () => ({ status: 400, body: said }) };
    expect(errorChain(await refusal(ask(without)))).toContain('This host has no local key provider');
  });
});
