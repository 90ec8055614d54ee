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

/** True for plain HTTP to anything but this machine: whoever is on the way can change what is answered. */
export function isPlainRemote(url: URL): boolean {
  return url.protocol === 'http:' && !isLoopback(url);
}

/** True unless the host is loopback or a single-label name: a container beside this one. */
export function isRemote(url: URL): boolean {
  return !isLoopback(url) && /[.:]/.test(url.hostname);
}

/** Of addresses, and of the names that RFC 6761 section 6.3 keeps for them. */
function isLoopback({ hostname }: URL): boolean {
  return (
    /^127(\.\d{1,3}){3}$/.test(hostname) ||
    hostname === '[::1]' ||
    /^\[::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4}\]$/.test(hostname) ||
    /^(.+\.)?localhost\.?$/.test(hostname)
  );
}

/** A setting and the address that it has. */
export type NamedAddress = readonly [name: string, address: string];

/** One warning for each address of a backend that is asked over plain HTTP to another machine. */
export function plainHttpWarnings(addresses: readonly NamedAddress[]): string[] {
  return addresses.flatMap(([name, address]) => {
    const url = URL.canParse(address) ? new URL(address) : undefined;
    if (!url || !isPlainRemote(url)) return [];
    const where = publicUrl(url);
    return [
      `${name}: ${where} is plain HTTP and not loopback: whoever is on the way can change what it answers`,
    ];
  });
}
