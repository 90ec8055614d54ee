import {
  type Attestation,
  AttestationError,
  parseCertificate,
  type VerifiedAttestation,
} from '@dstack-cloud/attestation';
import { decodePem, EncodingError, equalBytes, toHex } from '@dstack-cloud/encoding';
import { type AppKeys, KeysError } from '@dstack-cloud/keys';
import { type kms, PrpcError, RpcError } from '@dstack-cloud/prpc';
import { messageOf, RaTlsError } from '../errors.ts';
import { type Dial, onlyCertificate } from '../tls/agent.ts';
import type { PeerVerifier } from '../tls/peer.ts';
import { fetchNonce } from './fetch-nonce.ts';
import { type KmsClient, kmsBaseUrl, kmsClient } from './kms-client.ts';
import { tempClientIdentity } from './temp-client-identity.ts';

/** What is known about the KMS beforehand. Without a pin the root is believed and then measured. */
export interface KmsPins {
  /** DER SubjectPublicKeyInfo of the root CA, any one of these: the `key_provider_id` of the application. */
  readonly rootSpkis?: readonly Uint8Array[];
  /**
   * Whether the KMS must show evidence; default `if-present`. `ignore` is for a workload whose own measurement holds the pins, and
   * which cannot reach the collateral that a verdict takes.
   */
  readonly evidence?: 'required' | 'if-present' | 'ignore';
  /** Looks at the verified evidence of the KMS, or at its absence; refuses by throwing. */
  readonly acceptKms?: (verified: VerifiedAttestation | undefined) => void | Promise<void>;
}

/** Progress, for a terminal or a log. */
export type KmsProgress =
  | { readonly step: 'contact' | 'attest' | 'request'; readonly url: string }
  | { readonly step: 'failed' | 'held-keys-refused'; readonly url: string; readonly error: Error };

/** Which keys of an application: their epoch, and the id of their root (20 bytes), where that is known. */
export interface KeyName {
  readonly epoch: number;
  readonly rootId?: Uint8Array;
}

export interface ObtainAppKeysOptions {
  /** Tried in this order. */
  readonly kmsUrls: readonly string[];
  /** Obtains evidence of this machine over 64 bytes of report data. */
  readonly attest: (reportData: Uint8Array, nonce?: Uint8Array) => Promise<Attestation>;
  /** Asks the KMS for a nonce first: for enclaves, whose evidence has a place for one. Default false. */
  readonly wantsNonce?: boolean;
  readonly vmConfig: string;
  /** Keys that this machine's data still needs: asked for beside the present ones, while the KMS releases them. */
  readonly held?: KeyName;
  /** Verifies the evidence of the KMS; see `verifyPeerAttestation`. Needed unless evidence is ignored. */
  readonly verify?: PeerVerifier;
  readonly pins?: KmsPins;
  readonly onEvent?: (progress: KmsProgress) => void;
  /** Unix seconds. */
  readonly now?: () => number;
  /** Opens the streams to the KMS, e.g. through a proxy. */
  readonly dial?: Dial;
  readonly connectTimeoutMs?: number;
  readonly timeoutMs?: number;
}

/** Keys, and what is needed to talk to the same KMS again. */
export interface ObtainedKeys {
  readonly keys: AppKeys;
  /** Which ones they are. A KMS that knows of no epochs gives those of epoch 0. */
  readonly name: KeyName;
  /** Older ones, from the held ones on, the oldest first. */
  readonly previous: readonly { readonly name: KeyName; readonly keys: AppKeys }[];
  /** Ends in `/prpc`. */
  readonly kmsUrl: string;
  /** PEM. */
  readonly caCert: string;
  /** DER SubjectPublicKeyInfo of the root CA; goes into the `key-provider` event. */
  readonly rootSpki: Uint8Array;
  readonly tempCaCert: string;
  readonly tempCaKey: string;
  readonly gatewayAppId: string;
  readonly osImageHash: Uint8Array;
  /** Evidence of the KMS, if it showed any. */
  readonly kms?: VerifiedAttestation;
}

/**
 * Gets an application's keys from the first KMS that releases them (docs/protocol/ra-tls.md section 5.2). It measures
 * nothing: events are the caller's business once there is a result, so that failed attempts leave no trace in the
 * registers.
 * @throws RaTlsError the error of the first URL when all fail
 */
export async function obtainAppKeys(options: ObtainAppKeysOptions): Promise<ObtainedKeys> {
  let first: Error | undefined;
  for (const url of options.kmsUrls) {
    try {
      return await obtainFrom(kmsBaseUrl(url), options);
    } catch (error) {
      const refusal = asRaTlsError(url, error);
      options.onEvent?.({ step: 'failed', url, error: refusal });
      first ??= refusal;
    }
  }
  throw first ?? new RaTlsError('connection', 'No KMS URL is configured');
}

async function obtainFrom(url: string, options: ObtainAppKeysOptions): Promise<ObtainedKeys> {
  const { attest, wantsNonce = false, verify, pins = {}, now = unixNow, onEvent } = options;
  const connection = connectionOf(options);
  onEvent?.({ step: 'contact', url });
  const authority = await getTempCa(url, connection);
  const rootSpki = parseCertificate(decodePem(authority.caCert, 'CERTIFICATE')).spki;
  // The first connection is unauthenticated: the pin is what tells a KMS from an impostor.
  if (pins.rootSpkis && !pins.rootSpkis.some((pin) => equalBytes(pin, rootSpki))) {
    throw new RaTlsError('pin-mismatch', 'The root of the KMS is not the pinned one (key_provider_id)', {
      expected: pins.rootSpkis.map(toHex).join(' or '),
      found: toHex(rootSpki),
    });
  }
  onEvent?.({ step: 'attest', url });
  const nonce = wantsNonce ? await fetchNonce(url, connection) : undefined;
  const identity = await tempClientIdentity({
    ...authority,
    attest: (reportData) => attest(reportData, nonce),
    now: now(),
  });
  let evidence: VerifiedAttestation | undefined;
  const client = kmsClient(url, {
    ca: authority.caCert,
    ...identity,
    ...connection,
    verifyServer: {
      evidence: pins.evidence ?? 'if-present',
      ...(verify && { verify }),
      onServer: async (_, verified) => {
        await pins.acceptKms?.(verified);
        evidence = verified;
      },
    },
  });
  try {
    onEvent?.({ step: 'request', url });
    const answer = await requestKeys(client, url, options);
    const answeredSpki = parseCertificate(decodePem(answer.caCert, 'CERTIFICATE')).spki;
    if (!equalBytes(answeredSpki, rootSpki)) {
      throw new RaTlsError('pin-mismatch', 'The KMS answered with another root than before');
    }
    return {
      keys: keysOf(answer),
      name: nameOf(answer),
      previous: answer.previousKeys.map((older) => ({ name: nameOf(older), keys: keysOf(older) })),
      kmsUrl: url,
      ...authority,
      rootSpki,
      gatewayAppId: answer.gatewayAppId || answer.tproxyAppId,
      osImageHash: answer.osImageHash,
      ...(evidence && { kms: evidence }),
    };
  } finally {
    client.close();
  }
}

/**
 * The present keys, with those that are held if they are still released. If not, the present ones alone: whether these
 * are enough is for whoever has the data to find out.
 */
async function requestKeys(
  client: KmsClient,
  url: string,
  { vmConfig, held, onEvent }: ObtainAppKeysOptions,
): Promise<kms.AppKeyResponse> {
  const request = { apiVersion: 1, vmConfig };
  if (held === undefined) return await client.call.getAppKey(request);
  const { epoch: keyEpoch, rootId } = held;
  try {
    return await client.call.getAppKey({ ...request, keyEpoch, ...(rootId && { rootId }) });
  } catch (error) {
    if (!(error instanceof RpcError) || error.code !== 'KEY_NOT_FOUND') throw error;
    onEvent?.({ step: 'held-keys-refused', url, error });
    return await client.call.getAppKey(request);
  }
}

function keysOf({ diskCryptKey, envCryptKey, k256Key, k256Signature }: AppKeys): AppKeys {
  const keys = { diskCryptKey, envCryptKey, k256Key, k256Signature };
  checkKeys(keys);
  return keys;
}

function nameOf({
  keyEpoch = 0,
  rootId,
}: Pick<kms.AppKeyResponse | kms.EpochKeys, 'keyEpoch' | 'rootId'>): KeyName {
  if (rootId !== undefined && rootId.length !== 20) {
    throw new RaTlsError('kms-refused', `The KMS names a root by ${rootId.length} bytes instead of 20`);
  }
  return { epoch: keyEpoch, ...(rootId && { rootId }) };
}

interface TempAuthority {
  readonly tempCaCert: string;
  readonly tempCaKey: string;
  readonly caCert: string;
}

async function getTempCa(url: string, connection: ReturnType<typeof connectionOf>): Promise<TempAuthority> {
  const client = kmsClient(url, { verifyServer: 'dangerously-unverified', ...connection });
  try {
    const { tempCaCert, tempCaKey, caCert } = await client.call.getTempCaCert();
    return { tempCaCert, tempCaKey, caCert: onlyCertificate(caCert) };
  } finally {
    client.close();
  }
}

function checkKeys(keys: AppKeys): void {
  const lengths = [keys.diskCryptKey, keys.envCryptKey, keys.k256Key, keys.k256Signature].map(
    (key) => key.length,
  );
  if (lengths.join() !== '32,32,32,65') {
    throw new RaTlsError('kms-refused', `The KMS answered with keys of ${lengths.join(', ')} bytes`, {
      expected: '32,32,32,65',
      found: lengths.join(),
    });
  }
}

function connectionOf({ connectTimeoutMs, timeoutMs, dial }: ObtainAppKeysOptions): {
  connectTimeoutMs?: number;
  timeoutMs?: number;
  dial?: Dial;
} {
  return {
    ...(dial !== undefined && { dial }),
    ...(connectTimeoutMs !== undefined && { connectTimeoutMs }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  };
}

/** One class for all that a KMS and the way to it can do; errors of this machine pass unchanged. */
function asRaTlsError(url: string, error: unknown): Error {
  if (error instanceof RaTlsError) return error;
  if (error instanceof RpcError)
    return new RaTlsError('kms-refused', `${url}: ${error.message}`, { cause: error });
  if (error instanceof PrpcError) {
    // The agent's own reason tells more than the transport around it.
    if (error.cause instanceof RaTlsError) return error.cause;
    return new RaTlsError('connection', `${url}: ${error.message}`, { cause: error });
  }
  const badAnswer =
    error instanceof EncodingError ||
    error instanceof KeysError ||
    (error instanceof AttestationError && error.code === 'malformed');
  if (badAnswer) return new RaTlsError('malformed', `${url}: ${error.message}`, { cause: error });
  return error instanceof Error ? error : new Error(messageOf(error));
}

function unixNow(): number {
  return Math.floor(Date.now() / 1000);
}
