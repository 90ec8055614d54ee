import { concatBytes, EncodingError, fromHex, utf8 } from '@dstack-cloud/encoding';
import { defaultCrypto } from '#crypto';
import { AttestationError } from '../errors.ts';
import { JsonFields, parseJson } from '../json-fields.ts';

/**
 * MrConfigV3: the document whose hash is HOST_DATA on SNP, or MRCONFIGID on TDX (docs/protocol/app-compose.md section
 * 5).
 */
export interface MrConfig {
  /** 20 bytes, or empty when the document names none. */
  readonly appId: Uint8Array;
  /** 32 bytes. */
  readonly composeHash: Uint8Array;
  /** 20 bytes or empty. */
  readonly instanceId: Uint8Array;
  readonly keyProvider: string;
  readonly keyProviderId: Uint8Array;
  /** JSON of name and id, as the `key-provider` event has it; empty without key provider. */
  readonly keyProviderInfo: Uint8Array;
}

const MEMBERS = new Set([
  'app_id',
  'compose_hash',
  'gpu_policy_hash',
  'init_script_hashes',
  'instance_id',
  'key_provider',
  'key_provider_id',
  'version',
]);
const PREFIX = utf8('dstack-mr-config-v3:\0');
const MAX_CHARACTERS = 65_536;
const MAX_SCRIPTS = 256;
/** docs/protocol/app-compose.md section 5, and the name that events give to `local`. */
const KEY_PROVIDERS: readonly string[] = ['none', 'local', 'local-sgx', 'kms', 'tpm'];

/** SHA-256 of the document exactly as supplied, with its prefix. */
export function mrConfigHash(document: string): Uint8Array {
  return defaultCrypto.hash('sha256', concatBytes(PREFIX, utf8(document)));
}

/** Reads the document; unknown members are refused. @throws AttestationError `malformed`, `unsupported` */
export function readMrConfig(document: string): MrConfig {
  const json = parseJson(document, 'MrConfig document', MAX_CHARACTERS);
  const fields = new JsonFields(json, 'mr_config');
  const unknown = Object.keys(json as object).find((name) => !MEMBERS.has(name));
  if (unknown !== undefined) {
    throw new AttestationError('malformed', 'The MrConfig document has an unknown member', {
      found: unknown,
    });
  }
  // No member needs escapes or blanks, so a difference in length is a repeated member, on which readers differ.
  if (document.replace(/\s/g, '').length !== JSON.stringify(json).replace(/\s/g, '').length) {
    throw new AttestationError('malformed', 'The MrConfig document repeats or escapes a member');
  }
  const version = fields.integer('version');
  if (version !== 3) {
    throw new AttestationError('unsupported', 'MrConfig version', { expected: '3', found: `${version}` });
  }
  const keyProvider = fields.text('key_provider');
  if (!KEY_PROVIDERS.includes(keyProvider)) {
    throw new AttestationError('malformed', 'The MrConfig document names an unknown key provider', {
      expected: KEY_PROVIDERS.join(', '),
      found: keyProvider.slice(0, 32),
    });
  }
  optionalHex(fields, 'gpu_policy_hash', 32);
  if (fields.has('init_script_hashes')) requireHashes(fields.texts('init_script_hashes', MAX_SCRIPTS));
  const keyProviderId = optionalHex(fields, 'key_provider_id');
  return {
    appId: optionalHex(fields, 'app_id', 20),
    composeHash: fields.hex('compose_hash', 32),
    instanceId: optionalHex(fields, 'instance_id', 20),
    keyProvider,
    keyProviderId,
    keyProviderInfo: utf8(
      JSON.stringify({
        name: keyProvider,
        id: fields.has('key_provider_id') ? fields.text('key_provider_id') : '',
      }),
    ),
  };
}

function requireHashes(hashes: readonly string[]): void {
  const odd = hashes.find((hash) => !/^([0-9a-f]{2})+$/.test(hash));
  if (odd === undefined) return;
  throw new AttestationError('malformed', 'mr_config.init_script_hashes holds text that is no hex', {
    found: odd.slice(0, 80),
  });
}

/** Bytes of a member that may be absent or empty. */
function optionalHex(fields: JsonFields, name: string, length?: number): Uint8Array {
  const text = fields.has(name) ? fields.text(name) : '';
  if (text === '') return new Uint8Array();
  try {
    return fromHex(text, length === undefined ? {} : { length });
  } catch (error) {
    if (!(error instanceof EncodingError)) throw error;
    throw new AttestationError('malformed', `mr_config.${name} is not the hex expected`, {
      found: text.slice(0, 80),
    });
  }
}
