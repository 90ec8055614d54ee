import { isIP, isIPv6 } from 'node:net';
import { RaTlsError } from '../errors.ts';
import { checkText } from '../names/distinguished-name.ts';
import { checkAltName } from '../names/subject-alt-name.ts';
import type { CsrConfig } from './csr.ts';

const MAX_ALT_NAMES = 100;
const MAX_ALT_NAME_CHARACTERS = 253;
const MAX_LIFE_SECONDS = 3650 * 86_400;

export interface CsrRules {
  /** Unix seconds. */
  readonly now: number;
  readonly issuerNotAfter: number;
  /** Names that the certificate must not carry. */
  readonly forbiddenNames: readonly string[];
}

/**
 * Checks what a request asks for (docs/protocol/ra-tls.md section 4.3). Any DNS name but the forbidden ones may be
 * asked for, under the root that all applications of a KMS share.
 * @throws RaTlsError `invalid-field`
 */
export function checkCsrConfig(config: CsrConfig, rules: CsrRules): void {
  checkText('Subject', config.subject);
  if (config.orgName !== undefined) checkText('Organization', config.orgName);
  if (config.subjectAltNames.length > MAX_ALT_NAMES) {
    throw new RaTlsError('invalid-field', `More than ${MAX_ALT_NAMES} alternative names`);
  }
  for (const name of config.subjectAltNames) {
    checkAltName(name);
    if (name.length > MAX_ALT_NAME_CHARACTERS) {
      throw new RaTlsError(
        'invalid-field',
        `An alternative name exceeds ${MAX_ALT_NAME_CHARACTERS} characters`,
      );
    }
  }
  checkForbidden(config, rules.forbiddenNames);
  checkLife(config, rules);
}

function checkForbidden(config: CsrConfig, forbiddenNames: readonly string[]): void {
  const forbidden = forbiddenNames.map(plainName);
  for (const name of [config.subject, ...config.subjectAltNames]) {
    const plain = plainName(name);
    if (forbidden.some((other) => plain === other || coversByWildcard(plain, other))) {
      throw new RaTlsError('invalid-field', `The name "${name}" belongs to the KMS`, { found: name });
    }
  }
}

/** DNS names are compared without case and final dots (RFC 4343), IPv6 addresses in their one short form (RFC 5952). */
function plainName(name: string): string {
  if (isIPv6(name)) return new URL(`http://[${name.replace(/%.*$/, '')}]`).hostname.slice(1, -1);
  return name.trim().toLowerCase().replace(/\.+$/, '');
}

/**
 * A wildcard stands for one label, the first (RFC 9525 section 6.3), or for a part of it, as RFC 6125 section 6.4.3
 * allowed: OpenSSL and Node still take `k*s.example` for `kms.example`.
 */
function coversByWildcard(pattern: string, name: string): boolean {
  const [label, rest] = splitLabel(pattern);
  const [ownLabel, ownRest] = splitLabel(name);
  const star = label.indexOf('*');
  if (star < 0 || rest === '' || rest !== ownRest || isIP(name) !== 0) return false;
  const prefix = label.slice(0, star);
  const suffix = label.slice(label.lastIndexOf('*') + 1);
  return (
    ownLabel.length >= prefix.length + suffix.length &&
    ownLabel.startsWith(prefix) &&
    ownLabel.endsWith(suffix)
  );
}

function splitLabel(name: string): [label: string, rest: string] {
  const dot = name.indexOf('.');
  return dot < 0 ? [name, ''] : [name.slice(0, dot), name.slice(dot + 1)];
}

function checkLife({ notBefore, notAfter }: CsrConfig, { now, issuerNotAfter }: CsrRules): void {
  if (notBefore !== undefined && notAfter !== undefined && notBefore >= notAfter) {
    throw new RaTlsError('invalid-field', 'not_before must be earlier than not_after');
  }
  const latest = BigInt(Math.min(now + MAX_LIFE_SECONDS, issuerNotAfter));
  if (notAfter !== undefined && notAfter > latest) {
    const message = `not_after is later than ten years from now or than the issuer's own end (${latest})`;
    throw new RaTlsError('invalid-field', message, {
      expected: `at most ${latest}`,
      found: String(notAfter),
    });
  }
  if (notBefore !== undefined && notBefore >= latest) {
    throw new RaTlsError(
      'invalid-field',
      `not_before is later than the end of every certificate (${latest})`,
    );
  }
}
