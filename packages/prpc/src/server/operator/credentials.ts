import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { equalConstantTime, utf8 } from '@dstack-cloud/encoding';

/** Whether two texts are the same, in a time that tells nothing of where they differ or how long they are. */
export function sameSecret(a: string, b: string): boolean {
  return equalConstantTime(sha256(a), sha256(b));
}

/** What a listener of the operator takes as credentials. */
export type OperatorAccess = {
  /** Of the listener's own header with the bare token, in lower case. */
  readonly header: 'x-admin-token' | 'x-onboard-token';
  /** Empty for none. */
  readonly token: string;
  readonly checkPassword: PasswordCheck | undefined;
};

/** Whether a request shows any credential at all. */
export function showsCredential(
  { headers }: IncomingMessage,
  { header }: Pick<OperatorAccess, 'header'>,
): boolean {
  return headers.authorization !== undefined || headers[header] !== undefined;
}

/** Checks a user's password against an htpasswd file. */
export type PasswordCheck = (user: string, password: string) => Promise<boolean>;

/**
 * Whether a request carries a credential of the operator: `Bearer`, the listener's own header, or HTTP
 * Basic with a user of the htpasswd file, with the token as password, or with the token as user and no password.
 */
export async function isOperator(
  request: IncomingMessage,
  { header: name, token, checkPassword }: OperatorAccess,
): Promise<boolean> {
  const header = request.headers[name];
  if (token !== '' && typeof header === 'string' && sameSecret(header, token)) return true;
  const authorization = request.headers.authorization ?? '';
  if (authorization.startsWith('Bearer ')) {
    return token !== '' && sameSecret(authorization.slice('Bearer '.length), token);
  }
  if (!authorization.startsWith('Basic ')) return false;
  const [user, password] = basicCredentials(authorization.slice('Basic '.length));
  if (token !== '' && (sameSecret(password, token) || (password === '' && sameSecret(user, token))))
    return true;
  return checkPassword?.(user, password) ?? false;
}

/** RFC 7617: base64 of user, colon, password. */
function basicCredentials(encoded: string): [user: string, password: string] {
  const text = Buffer.from(encoded.slice(0, 2048), 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1)];
}

function sha256(text: string): Uint8Array {
  return new Uint8Array(createHash('sha256').update(utf8(text)).digest());
}
