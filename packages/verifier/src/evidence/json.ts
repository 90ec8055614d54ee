import { attestationFromQuote, tpmSignatureFromDer } from '@dstack-cloud/attestation';
import { bytesFromText, concatBytes, EncodingError, utf8Text } from '@dstack-cloud/encoding';
import { VerifierError } from '../errors.ts';
import type { Evidence, TpmQuoteJson } from './evidence.ts';

const MAX_PCRS = 32;

type Json = Readonly<Record<string, unknown>>;

/**
 * The JSON forms: the verifier's request (`attestation`, or `quote`, `event_log` and `vm_config`, also as
 * GetQuote answers it), a quote in `tdx.quote`, and NitroTPM and vTPM quotes of the vaportpm tools.
 * @param inner recognises bytes that the JSON holds
 * @throws VerifierError
 */
export function recogniseJson(value: unknown, inner: (bytes: Uint8Array) => Evidence): Evidence {
  const json = object(value, 'evidence');
  if (typeof json['attestation'] === 'string' && json['attestation'] !== '') {
    return withAppCompose(inner(bytesOf(json['attestation'], 'attestation')), json['app_compose']);
  }
  if (typeof json['quote'] === 'string') return requestWithQuote(json);
  const tdx = optionalObject(json['tdx']);
  if (typeof tdx?.['quote'] === 'string') {
    return { form: 'quote-json', kind: 'quote', quote: bytesOf(tdx['quote'], 'tdx.quote') };
  }
  const parts = optionalObject(json['attestation']);
  const tpm = optionalObject(optionalObject(parts?.['tpm'])?.['ecc_p256']);
  if (parts && tpm) return vaporEvidence(json, parts, tpm);
  if (json['format'] === 'dstack-evidence-bundle') {
    throw new VerifierError(
      'form-unknown',
      'An offline bundle, which brings its own time and collateral: it is opened only from a file of the reader',
    );
  }
  throw new VerifierError(
    'form-unknown',
    'JSON of no known form: no attestation, quote, tdx.quote or TPM quote',
  );
}

/** The compose file that a guest agent shows beside its evidence: held against the measured hash later. */
function withAppCompose(evidence: Evidence, appCompose: unknown): Evidence {
  const found = { ...evidence, form: 'request-json' };
  if (appCompose === undefined || appCompose === null) return found;
  if (typeof appCompose !== 'string') throw new VerifierError('malformed', 'app_compose is no text');
  if (found.kind === 'attestation') return { ...found, appCompose };
  throw new VerifierError('malformed', 'app_compose stands beside evidence that measures no compose file');
}

function requestWithQuote(json: Json): Evidence {
  const quote = bytesOf(text(json, 'quote'), 'quote');
  const eventLog = json['event_log'];
  const vmConfig = typeof json['vm_config'] === 'string' ? json['vm_config'] : undefined;
  if (eventLog === undefined || eventLog === null) {
    // A bare quote says nothing of an image: a caller who names one must not take it for verified.
    if (vmConfig) throw new VerifierError('malformed', 'event_log is required beside vm_config');
    return { form: 'request-json', kind: 'quote', quote };
  }
  const logText = typeof eventLog === 'string' ? eventLogText(eventLog) : JSON.stringify(eventLog);
  return {
    form: 'request-json',
    kind: 'attestation',
    attestation: attestationFromQuote(quote, logText, vmConfig),
  };
}

/** JSON text, or that in hex or base64. */
function eventLogText(text: string): string {
  if (text.trimStart().startsWith('[')) return text;
  return decode('event_log', () => utf8Text(bytesFromText(text).bytes));
}

/** What vaportpm stores: PCRs by bank, the key, TPMS_ATTEST with a DER signature, and the cloud's own part. */
function vaporEvidence(json: Json, parts: Json, tpm: Json): Evidence {
  const quote = tpmQuote(json, tpm);
  const nitro = optionalObject(parts['nitro']);
  if (nitro) {
    const document = bytesOf(text(nitro, 'document'), 'document');
    return { form: 'nitrotpm-json', kind: 'nitro-tpm-document', document, tpm: quote };
  }
  const gcp = optionalObject(parts['gcp']);
  if (!gcp) throw new VerifierError('form-unknown', 'A TPM quote of neither GCP nor AWS');
  return { form: 'vtpm-json', kind: 'gcp-vtpm', tpm: quote, certChainPem: text(gcp, 'ak_cert_chain') };
}

function tpmQuote(json: Json, tpm: Json): TpmQuoteJson {
  const banks = object(json['pcrs'], 'pcrs');
  const bank = (['sha256', 'sha384'] as const).find((name) => name in banks);
  if (!bank) throw new VerifierError('malformed', 'pcrs has neither a sha256 nor a sha384 bank');
  const values = Object.entries(object(banks[bank], `pcrs.${bank}`));
  if (values.length > MAX_PCRS) throw new VerifierError('too-large', `${values.length} PCR values`);
  const key = object(object(json['ak_pubkeys'], 'ak_pubkeys')['ecc_p256'], 'ak_pubkeys.ecc_p256');
  const pcrs = values.map(([index, value]) => {
    if (!/^([0-9]|[12][0-9]|3[01])$/.test(index))
      throw new VerifierError('malformed', `PCR ${index.slice(0, 16)}`);
    return { index: Number(index), value: bytesOf(value, `PCR ${index}`) };
  });
  return {
    message: bytesOf(text(tpm, 'attest_data'), 'attest_data'),
    signature: tpmSignatureFromDer(bytesOf(text(tpm, 'signature'), 'signature')),
    bank,
    pcrs: pcrs.sort((a, b) => a.index - b.index),
    key: concatBytes(bytesOf(key['x'], 'x', 32), bytesOf(key['y'], 'y', 32)),
    nonce: json['nonce'] === undefined ? undefined : bytesOf(json['nonce'], 'nonce'),
  };
}

function object(value: unknown, name: string): Json {
  const found = optionalObject(value);
  if (!found) throw new VerifierError('malformed', `${name} is no JSON object`);
  return found;
}

function optionalObject(value: unknown): Json | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

function text(json: Json, name: string): string {
  const value = json[name];
  if (typeof value !== 'string') throw new VerifierError('malformed', `${name} is no text`);
  return value;
}

/** Bytes of a member, in hex or base64. */
function bytesOf(value: unknown, name: string, length?: number): Uint8Array {
  if (typeof value !== 'string') throw new VerifierError('malformed', `${name} is no text`);
  const { bytes } = decode(name, () => bytesFromText(value));
  if (length === undefined || bytes.length === length) return bytes;
  throw new VerifierError('malformed', `${name} has ${bytes.length} bytes, not ${length}`);
}

function decode<T>(name: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (!(cause instanceof EncodingError)) throw cause;
    throw new VerifierError('malformed', `${name}: ${cause.message}`, { cause });
  }
}
