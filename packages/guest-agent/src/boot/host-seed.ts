import { createHash, randomBytes } from 'node:crypto';
import {
  AttestationError,
  type VerifiedQuote,
  verifyBareQuote,
  verifyContext,
} from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { concatBytes, equalBytes, toHex } from '@dstack-cloud/encoding';
import { openSealedBox, x25519PublicKey } from '@dstack-cloud/keys';
import { createPrpcClient, HostApi, type PrpcTransport } from '@dstack-cloud/prpc';
import type { PeerTrust } from '../agent/peer-verifier.ts';
import { GuestError } from '../errors.ts';
import type { Logger } from '../log.ts';

const KEY = 32;
const MAX_SEALED = 1024;

export interface HostSeedInput {
  /** The host API; undefined where the host has none. */
  readonly host: PrpcTransport | undefined;
  /** All events up to `boot-mr-done` are measured. */
  readonly device: EvidenceDevice;
  readonly trust: PeerTrust;
  readonly log: Logger;
}

/** A seed, and who gave it. */
export interface HostSeed {
  /** 32 bytes, secret. */
  readonly seed: Uint8Array;
  /** MRENCLAVE of the provider: what `key_provider_id` pins. */
  readonly mrEnclave: Uint8Array;
}

/**
 * The seed that an SGX enclave of the host gives to this measured TD, in the protocol of the original: the enclave verifies
 * a quote of the TD, and seals a key to the public key in its report data; the TD verifies the quote of the enclave, which
 * names the hash of what it sealed.
 *
 * The enclave's answer does not say for which TD it was made. So a host may hand over the key of a TD of its own, and it
 * may run any enclave unless `key_provider_id` pins one.
 *
 * @throws GuestError `key-provider-unsupported`, `key-provider-failed`
 */
export async function seedFromHost({ host, device, trust, log }: HostSeedInput): Promise<HostSeed> {
  if (host === undefined || device.mode !== 'dstack-tdx') {
    throw new GuestError(
      'key-provider-unsupported',
      'Key provider local needs an SGX key provider behind the host API, which this machine cannot reach; use kms, tpm or none',
      { expected: 'a host API on TDX', found: host === undefined ? 'no host API' : device.mode },
    );
  }
  const secret = new Uint8Array(randomBytes(KEY));
  try {
    const { quote } = await device.attest(concatBytes(x25519PublicKey(secret), new Uint8Array(KEY)));
    if (quote.mode !== 'dstack-tdx') throw new AttestationError('device', 'The device gave no TDX quote');
    const { encryptedKey, providerQuote } = await createPrpcClient(HostApi, host).getSealingKey({
      quote: quote.quote,
    });
    const { enclave, status, simulated } = await verifyEnclave(providerQuote, encryptedKey, trust);
    const seed = openSealedBox(encryptedKey, secret);
    if (seed.length !== KEY)
      throw new AttestationError('malformed', 'The key provider sealed no key of 32 bytes', {
        found: `${seed.length} bytes`,
      });
    const facts = { mr_enclave: toHex(enclave.mrEnclave), tcb_status: status };
    if (simulated) log.warn(facts, 'Key provider runs on SIMULATED hardware: development only');
    else if (status !== 'UpToDate') log.warn(facts, 'The machine of the key provider is not up to date');
    else log.info(facts, 'The key provider of the host gave the seed of this machine');
    return { seed, mrEnclave: enclave.mrEnclave.slice() };
  } catch (cause) {
    if (cause instanceof GuestError) throw cause;
    const { expected, found } =
      cause instanceof AttestationError ? cause : { expected: undefined, found: undefined };
    throw new GuestError('key-provider-failed', 'The key provider of the host gave no seed', {
      cause,
      ...(expected && { expected }),
      ...(found && { found }),
    });
  } finally {
    secret.fill(0);
    host.close();
  }
}

/** A genuine SGX enclave, not in debug mode, that made exactly this. */
async function verifyEnclave(
  providerQuote: Uint8Array,
  encryptedKey: Uint8Array,
  { roots, collateral }: PeerTrust,
): Promise<
  Omit<VerifiedQuote['dcap'], 'enclave'> & { enclave: NonNullable<VerifiedQuote['dcap']['enclave']> }
> {
  if (encryptedKey.length > MAX_SEALED)
    throw new AttestationError('too-large', `A sealed key of ${encryptedKey.length} bytes`);
  const now = Math.floor(Date.now() / 1000);
  const hash = new Uint8Array(createHash('sha256').update(encryptedKey).digest());
  const { dcap } = await verifyBareQuote(
    providerQuote,
    verifyContext({ roots, collateral, now }),
    ({ enclave }) => requireHash(enclave?.reportData, hash),
  );
  const { enclave } = dcap;
  requireHash(enclave?.reportData, hash);
  return { ...dcap, enclave: enclave! };
}

function requireHash(reportData: Uint8Array | undefined, hash: Uint8Array): void {
  if (reportData === undefined)
    throw new AttestationError('unsupported', 'The quote of the key provider is of no SGX enclave');
  const found = reportData.subarray(0, KEY);
  if (equalBytes(found, hash)) return;
  throw new AttestationError(
    'mismatch',
    'The quote of the key provider is not for the key that came with it',
    {
      expected: toHex(hash),
      found: toHex(found),
    },
  );
}
