import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { readFileBounded } from '@dstack-cloud/app';
import type { Context } from '../context.ts';
import { CliError } from '../errors.ts';

const MAX_FILE = 64 * 1024;
/** Variable with the private key in PEM. */
const VARIABLE = 'SEAL_APPROVAL_KEY';
const CURVE = 'prime256v1';

/** Who approves: the public key, and a way to sign when the private one is at hand. */
export interface Approver {
  /** SPKI DER. */
  readonly spki: Uint8Array;
  /** ECDSA P-256 with SHA-256: r, s. Undefined where somebody else signs. */
  readonly sign: ((message: Uint8Array) => Uint8Array) | undefined;
}

/** Options that name the key; at most one of the first two. */
export interface KeyOptions {
  readonly keyFile?: string | undefined;
  readonly publicKey?: string | undefined;
  readonly passwordFile?: string | undefined;
}

/** The key of a file or of the environment, in PEM. Its text never appears in an error. @throws CliError `no_key` */
export async function findApprover(context: Context, options: KeyOptions): Promise<Approver> {
  const { keyFile, publicKey, passwordFile } = options;
  if (keyFile !== undefined && publicKey !== undefined)
    throw noKey('--key-file and --public-key are both given; one says who approves');
  if (publicKey !== undefined) {
    const text = await readFile(context, publicKey);
    return {
      spki: spkiOf(
        parsed(publicKey, () => createPublicKey(text)),
        publicKey,
      ),
      sign: undefined,
    };
  }
  const variable = context.env[VARIABLE];
  if (keyFile === undefined && !variable)
    throw noKey(
      `Set ${VARIABLE} to a private key in PEM, or pass --key-file FILE; for a key that is kept elsewhere, --public-key FILE with --to-sign and --signature`,
    );
  const where = keyFile ?? VARIABLE;
  const text = keyFile === undefined ? variable! : await readSecret(context, keyFile);
  const passphrase =
    passwordFile === undefined ? undefined : (await readSecret(context, passwordFile)).replace(/\r?\n$/, '');
  if (passphrase === undefined && text.includes('ENCRYPTED'))
    throw noKey(`${where} is encrypted: pass --password-file FILE`);
  const key = parsed(where, () =>
    createPrivateKey({ key: text, ...(passphrase === undefined ? {} : { passphrase }) }),
  );
  return {
    spki: spkiOf(key, where),
    sign: (message) => new Uint8Array(sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' })),
  };
}

function spkiOf(key: KeyObject, where: string): Uint8Array {
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (curve !== CURVE)
    throw noKey(`${where} has a key that no TPM takes for approvals`, {
      expected: 'an elliptic curve key on P-256 (prime256v1)',
      found: curve ?? key.asymmetricKeyType ?? 'another key',
    });
  const shared = key.type === 'public' ? key : createPublicKey(key);
  return new Uint8Array(shared.export({ format: 'der', type: 'spki' }));
}

function parsed(where: string, read: () => KeyObject): KeyObject {
  try {
    return read();
  } catch (error) {
    const { code } = error as { code?: string };
    // The library's own words could repeat what it read.
    throw noKey(`${where} has no key in PEM that can be read${code === undefined ? '' : ` (${code})`}`);
  }
}

async function readSecret(context: Context, name: string): Promise<string> {
  const text = await readFile(context, name);
  const { mode } = await stat(resolve(context.directory, name));
  if ((mode & 0o077) !== 0) context.warn(`Others may read ${name}: chmod 600 it`);
  return text;
}

async function readFile(context: Context, name: string): Promise<string> {
  try {
    return Buffer.from(await readFileBounded(resolve(context.directory, name), MAX_FILE)).toString('utf8');
  } catch (cause) {
    throw noKey(`${name} cannot be read`, { cause });
  }
}

function noKey(
  message: string,
  details: { expected?: string; found?: string; cause?: unknown } = {},
): CliError {
  return new CliError('no_key', message, details);
}
