import type { AppKeysFile } from '@dstack-cloud/app';
import { bootInfo } from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { equalBytes } from '@dstack-cloud/encoding';
import {
  type AppKeys,
  issuedKeyMessage,
  k256PublicKey,
  rootId as keyRootId,
  recoverK256,
} from '@dstack-cloud/keys';
import { RpcError } from '@dstack-cloud/prpc';
import {
  type KeyName,
  type ObtainedKeys,
  obtainAppKeys,
  type PeerVerifier,
  RaTlsError,
} from '@dstack-cloud/ra-tls';
import { GuestError, type GuestErrorCode } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { NamedEnvKey } from './environment.ts';

/** What keys are asked for with. */
export interface KmsKeysInput {
  readonly urls: readonly string[];
  readonly device: EvidenceDevice;
  readonly vmConfig: string;
  readonly verify: PeerVerifier;
  readonly requireAttestation: boolean;
  /** Pinned SPKI DER of the KMS root; empty = any. */
  readonly keyProviderId: Uint8Array;
  /** Keys that the machine's data still needs. */
  readonly held: KeyName | undefined;
  /** The measured application. */
  readonly appId: Uint8Array;
  readonly log: Logger;
}

/** Released keys and what is to be measured about the KMS that released them. */
export interface KmsKeys {
  readonly keys: AppKeysFile;
  readonly name: KeyName;
  /** Older keys, the oldest first: of the environment, for what is not sealed to the present one yet, and of the disk. */
  readonly previous: readonly (NamedEnvKey & { readonly diskKey: Uint8Array })[];
  /** SPKI DER of the KMS root. */
  readonly providerId: Uint8Array;
  readonly osImageHash: Uint8Array;
  /** mr_aggregated of the KMS; undefined when its certificate carried no attestation. */
  readonly mrKms: Uint8Array | undefined;
}

/**
 * Keys from the first KMS that releases them. Nothing is measured here, so a KMS that refused
 * or failed leaves no trace in RTMR3.
 *
 * @throws GuestError `kms-unreachable`, `kms-unavailable` or `kms-refused` with the text of the KMS, `kms-untrusted`,
 * `key-provider-mismatch`
 */
export async function keysFromKms(input: KmsKeysInput): Promise<KmsKeys> {
  const { urls, device, vmConfig, verify, log } = input;
  if (urls.length === 0)
    throw new GuestError('kms-unreachable', 'No KMS URL: .sys-config.json has no kms_urls');
  const attempts: string[] = [];
  try {
    const obtained = await obtainAppKeys({
      kmsUrls: urls,
      attest: (reportData, nonce) => device.attest(reportData, nonce && { nonce }),
      wantsNonce: device.mode === 'dstack-nitro-enclave',
      vmConfig,
      ...(input.held && { held: input.held }),
      verify,
      pins: {
        evidence: input.requireAttestation ? 'required' : 'if-present',
        ...(input.keyProviderId.length > 0 ? { rootSpkis: [input.keyProviderId] } : {}),
      },
      onEvent: (progress) => {
        if (progress.step === 'held-keys-refused') {
          return log.warn({ reason: progress.error.message }, 'KMS releases the keys held so far no longer');
        }
        if (progress.step !== 'failed') return log.info({ url: progress.url }, `KMS: ${progress.step}`);
        attempts.push(`${progress.url}: ${progress.error.message}`);
        log.warn({ url: progress.url, error: progress.error.message }, 'KMS attempt failed');
      },
    });
    if (obtained.kms?.simulated)
      log.warn({ url: obtained.kmsUrl }, 'KMS runs on SIMULATED hardware: development only');
    return fromObtained(obtained, input.appId);
  } catch (cause) {
    const more = attempts.slice(1);
    const others = more.length === 0 ? '' : ` (others: ${more.join('; ')})`;
    const code = codeOf(cause);
    const hint =
      code === 'kms-unavailable' ? ' (the KMS could not decide, which is no denial: try again)' : '';
    throw new GuestError(code, `Failed to get app keys${others}${hint}`, { cause });
  }
}

function fromObtained(obtained: ObtainedKeys, appId: Uint8Array): KmsKeys {
  const { keys, kmsUrl, caCert, rootSpki, tempCaCert, tempCaKey, gatewayAppId, osImageHash, kms } = obtained;
  return {
    keys: {
      ...keys,
      gatewayAppId,
      caCert,
      keyProvider: {
        kind: 'kms',
        url: kmsUrl,
        pubkey: rootSpki,
        tmpCaKey: tempCaKey,
        tmpCaCert: tempCaCert,
      },
    },
    name: withRoot(appId, obtained.name, keys),
    previous: obtained.previous.map((older) => ({
      name: withRoot(appId, older.name, older.keys),
      key: older.keys.envCryptKey,
      diskKey: older.keys.diskCryptKey,
    })),
    providerId: rootSpki,
    osImageHash,
    mrKms: kms === undefined ? undefined : bootInfo(kms, { bootTime: false }).mrAggregated,
  };
}

/**
 * The root that keys come from is the one that signed them, whatever the KMS calls it: so also keys of a KMS that
 * knows of no root ids have one.
 */
function withRoot(appId: Uint8Array, name: KeyName, { k256Key, k256Signature }: AppKeys): KeyName {
  const signer = signerOf(issuedKeyMessage(appId, k256PublicKey(k256Key)), k256Signature);
  const rootId = signer && keyRootId(signer);
  if (name.rootId === undefined) return rootId === undefined ? name : { ...name, rootId };
  if (rootId !== undefined && equalBytes(rootId, name.rootId)) return name;
  throw new RaTlsError('kms-refused', 'The KMS names another root than the one that signed the keys');
}

function signerOf(message: Uint8Array, signature: Uint8Array): Uint8Array | undefined {
  try {
    return recoverK256(message, signature);
  } catch {
    return undefined;
  }
}

function codeOf(error: unknown): GuestErrorCode {
  if (!(error instanceof RaTlsError)) return 'evidence-failed';
  switch (error.code) {
    case 'connection':
      return 'kms-unreachable';
    case 'kms-refused':
      return saysNothing(error.cause) ? 'kms-unavailable' : 'kms-refused';
    case 'pin-mismatch':
      return 'key-provider-mismatch';
    default:
      return 'kms-untrusted';
  }
}

/** Statuses of servers and proxies that took no request to the KMS, or not in time (RFC 9110 section 15, RFC 6585 section 4). */
const NOT_ASKED: readonly number[] = [408, 429, 502, 503, 504];

/** Whether a KMS refused without having decided about this machine: its policy could not be read, or it has too much to do. */
function saysNothing(answer: unknown): boolean {
  if (!(answer instanceof RpcError)) return false;
  return answer.code === 'UNAVAILABLE' || answer.code === 'RATE_LIMITED' || NOT_ASKED.includes(answer.status);
}
