import { fromHex, toHex } from '@dstack-cloud/encoding';
import { type EnvKeyName, type EnvPublicKeyClaim, verifyEnvPublicKey } from '@dstack-cloud/keys';
import { CliError, EXIT, messageOf } from '../errors.ts';
import { postKms } from './post-kms.ts';

/** A signed key older than this is not accepted. */
const MAX_AGE_SECONDS = 300;

/** What the KMS says about an app's environment key, not yet believed. */
interface Answer {
  readonly public_key?: unknown;
  readonly signature_v1?: unknown;
  readonly signature_v2?: unknown;
  readonly timestamp?: unknown;
  readonly key_epoch?: unknown;
  readonly root_id?: unknown;
  readonly is_present?: unknown;
}

/** The app's X25519 key, and which compressed secp256k1 root signed it. */
export interface EnvKey {
  readonly publicKey: Uint8Array;
  readonly signer: string;
  readonly url: string;
}

/**
 * Fetches the public key that the app's environment is sealed to and checks the root's signature over app id, time, key
 * and what says that it is the present one: a key service that releases older keys too signs them as such. One that
 * knows of no epochs signs without; then there is but one key. TLS proves nothing here: the signature does, and an answer that the expected root did not sign is refused.
 * Tries each URL in order. Throws `kms_unreachable`, `kms_untrusted`.
 */
export async function fetchEnvKey(options: {
  readonly urls: readonly string[];
  readonly appId: string;
  /** Compressed root key, hex without 0x, that must have signed for this URL. */
  readonly signerFor: (url: string) => string;
  readonly now: Date;
}): Promise<EnvKey> {
  if (options.urls.length === 0)
    throw new CliError('kms_unreachable', 'KMS enabled but no kms_urls configured in global config', {
      hint: 'Add services.kms_urls with dstack-cloud config-edit',
    });
  const failures: string[] = [];
  for (const url of options.urls) {
    let answer: Answer;
    try {
      answer = (await postKms(url, 'GetAppEnvEncryptPubKey', {
        app_id: options.appId,
        with_name: true,
      })) as Answer;
    } catch (error) {
      failures.push(`${url}: ${messageOf(error)}`);
      continue;
    }
    return { ...check(answer, options, url), url };
  }
  throw new CliError('kms_unreachable', `No KMS answered: ${failures.join('; ')}`, {
    hint: 'Check services.kms_urls (dstack-cloud config-edit) and that the KMS runs',
  });
}

function check(
  answer: Answer,
  options: { appId: string; signerFor: (url: string) => string; now: Date },
  url: string,
): { publicKey: Uint8Array; signer: string } {
  const expected = options.signerFor(url);
  const refuse = (why: string, found: string): never => {
    throw new CliError('kms_untrusted', `The environment key of ${url} is not trusted: ${why}`, {
      expected: `signed by 0x${expected}`,
      found,
      exitCode: EXIT.refused,
      hint: 'Somebody may stand between you and the KMS. Check kms_urls and chain.kms_contract before you go on',
    });
  };
  const isNamed = answer.signature_v2 !== undefined && answer.signature_v2 !== null;
  const epoch = answer.key_epoch ?? 0;
  let claim: Pick<EnvPublicKeyClaim, 'publicKey' | 'signature' | 'name'>;
  try {
    claim = {
      publicKey: fromHex(String(answer.public_key), { length: 32, prefix: 'allow' }),
      signature: fromHex(String(isNamed ? answer.signature_v2 : answer.signature_v1), {
        length: 65,
        prefix: 'allow',
      }),
      ...(isNamed && { name: nameOf(answer) }),
    };
  } catch {
    return refuse('the answer has no signed key', 'public_key or its signature is missing');
  }
  if (isNamed ? claim.name?.isPresent !== true : epoch !== 0) {
    return refuse(
      'it is not the key that the machines get at present, and an older one may have leaked',
      `epoch ${String(epoch)}`,
    );
  }
  const timestamp = Number(answer.timestamp);
  const recovered = verifyEnvPublicKey({
    ...claim,
    appId: fromHex(options.appId),
    timestamp: Number.isSafeInteger(timestamp) && timestamp > 0 ? timestamp : 0,
    now: Math.floor(options.now.getTime() / 1000),
    maxAgeSeconds: MAX_AGE_SECONDS,
  });
  if (recovered === null)
    return refuse('the signature is damaged or not fresh', `time ${String(answer.timestamp)}`);
  const signer = toHex(recovered);
  if (signer !== expected) return refuse('another key signed it', `signed by 0x${signer}`);
  return { publicKey: claim.publicKey, signer };
}

/** @throws EncodingError, KeysError for what is no name */
function nameOf({ key_epoch: epoch, root_id: id, is_present: isPresent }: Answer): EnvKeyName {
  const rootId = fromHex(String(id), { length: 20, prefix: 'allow' });
  return { epoch: Number(epoch), rootId, isPresent: isPresent === true };
}
