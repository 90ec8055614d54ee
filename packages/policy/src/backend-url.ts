import { PolicyError } from './errors.ts';

/**
 * Parse the address of a backend. One that cannot be used is not shown: a part of it may be a key or a password.
 * @throws PolicyError `bad-configuration`
 */
export function backendUrl(text: string, name: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new PolicyError('bad-configuration', `${name} must be an http or https URL`);
}

/** Scheme and host: all of an RPC address that may be shown. */
export function publicUrl(url: URL): string {
  return url.origin;
}

/**
 * True for plain HTTP to another machine, where anybody on the way decides about keys (chapter 10 section 10.3).
 * Loopback and single-label names (a container beside this one) are not.
 */
export function isPlainRemote(url: URL): boolean {
  return url.protocol === 'http:' && isRemote(url);
}

/** True unless the host is loopback or a single-label name: a container beside this one. */
export function isRemote({ hostname }: URL): boolean {
  const loopback = hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
  return !loopback && (hostname.includes('.') || hostname.includes(':'));
}
