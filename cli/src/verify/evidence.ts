import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import { type Attestation, AttestationError, decodeAttestation } from '@dstack-cloud/attestation';
import { fromBase64, fromHex, toHex } from '@dstack-cloud/encoding';
import { CliError, messageOf } from '../errors.ts';
import { fetchJson } from './fetch-json.ts';

const MAX_FILE_BYTES = 16 * 1024 * 1024;
const NONCE_BYTES = 32;

/** Evidence as somebody handed it over; nothing of it is believed yet. */
export interface Evidence {
  readonly source: string;
  readonly attestation: Attestation;
  /** Our nonce, when the evidence was asked for just now. */
  readonly nonce: Uint8Array | undefined;
  /** `app-compose.json` as text, when the machine shows it. */
  readonly appCompose: string | undefined;
}

/** Gets evidence from a URL with a fresh nonce, or reads it from a file. Throws `unreachable`, `file_missing`. */
export async function getEvidence(target: string, directory: string): Promise<Evidence> {
  return /^https?:\/\//i.test(target) ? await fromUrl(target) : await fromFile(resolve(directory, target));
}

async function fromUrl(target: string): Promise<Evidence> {
  const url = new URL(target);
  if (url.pathname === '/' || url.pathname === '') url.pathname = '/attestation';
  const nonce = new Uint8Array(randomBytes(NONCE_BYTES));
  url.searchParams.set('nonce', toHex(nonce));
  let answer: unknown;
  try {
    answer = await fetchJson(url.href);
  } catch (error) {
    throw new CliError('unreachable', `No attestation: ${messageOf(error)}`, {
      hint: 'Name the address of the guest agent (dstack-cloud status prints it), not that of the app',
    });
  }
  return { ...fromDocument(answer, target), source: target, nonce };
}

async function fromFile(path: string): Promise<Evidence> {
  if (!existsSync(path))
    throw new CliError('file_missing', `${path} does not exist`, {
      hint: 'Give a URL (http://…) or a file with an attestation',
    });
  const bytes = await readFileBounded(path, MAX_FILE_BYTES);
  const text = new TextDecoder().decode(bytes).trim();
  if (text.startsWith('{')) {
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch (error) {
      throw new CliError('not_verified', `${path} is no valid JSON`, { cause: error });
    }
    return { ...fromDocument(document, path), source: path, nonce: undefined };
  }
  const raw = /^[0-9a-fA-F]+$/.test(text) ? fromHex(text.toLowerCase()) : bytes;
  return { attestation: decode(raw, path), appCompose: undefined, source: path, nonce: undefined };
}

/** The answer of `/attestation`, `Attest` or a KMS: hex or base64 in `attestation`. */
function fromDocument(value: unknown, where: string): Pick<Evidence, 'attestation' | 'appCompose'> {
  const document = value as { attestation?: unknown; app_compose?: unknown } | null;
  const text = document?.attestation;
  if (typeof text !== 'string')
    throw new CliError('not_verified', `${where} holds no attestation`, {
      expected: 'a member attestation',
      found: Object.keys((document ?? {}) as object)
        .slice(0, 8)
        .join(', '),
    });
  let bytes: Uint8Array;
  try {
    bytes = /^(0x)?[0-9a-fA-F]*$/.test(text)
      ? fromHex(text.toLowerCase(), { prefix: 'allow' })
      : fromBase64(text);
  } catch (error) {
    throw new CliError('not_verified', `The attestation of ${where} is neither hex nor base64`, {
      cause: error,
    });
  }
  const compose = document?.app_compose;
  return { attestation: decode(bytes, where), appCompose: typeof compose === 'string' ? compose : undefined };
}

function decode(bytes: Uint8Array, where: string): Attestation {
  try {
    return decodeAttestation(bytes);
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    throw new CliError('not_verified', `The attestation of ${where} cannot be read: ${error.message}`, {
      cause: error,
    });
  }
}
