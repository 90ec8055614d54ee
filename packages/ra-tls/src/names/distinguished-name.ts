import { der } from '@dstack-cloud/encoding';
import { RaTlsError } from '../errors.ts';
import { X509_OID } from '../oid.ts';

const MAX_NAME_CHARACTERS = 1024;

export interface DistinguishedName {
  readonly organization?: string;
  readonly commonName: string;
}

/** DER of a Name: O, if any, then CN, both UTF8String (docs/protocol/ra-tls.md section 2.1). */
export function encodeName(name: DistinguishedName): Uint8Array {
  const attributes: Uint8Array[] = [];
  if (name.organization !== undefined) attributes.push(attribute(X509_OID.organization, name.organization));
  attributes.push(attribute(X509_OID.commonName, name.commonName));
  return der.sequence(...attributes);
}

function attribute(oid: string, value: string): Uint8Array {
  checkText('Subject', value);
  return der.set(der.sequence(der.oid(oid), der.utf8String(value)));
}

/** @throws RaTlsError for control characters, lone surrogates, and more than 1024 characters */
export function checkText(what: string, text: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f-\u009f]/.test(text)) {
    throw new RaTlsError('invalid-field', `${what} holds control characters`);
  }
  if (/\p{Surrogate}/u.test(text)) throw new RaTlsError('invalid-field', `${what} is no well-formed text`);
  if (text.length > MAX_NAME_CHARACTERS) {
    throw new RaTlsError('invalid-field', `${what} exceeds ${MAX_NAME_CHARACTERS} characters`);
  }
}
