const HOST = /^privateca-content-[0-9a-f-]{1,64}\.storage\.googleapis\.com$/;
/** No dots but one before the extension, no escapes, no query: nothing that leads elsewhere. */
const PATH = /^(\/[0-9A-Za-z_-]{1,128}){1,8}\.(crt|crl)$/;
/** Names of this machine in URLs. */
export const LOOPBACK: readonly string[] = ['127.0.0.1', '[::1]', 'localhost'];
const MAX_URL = 512;

/**
 * Whether an address in a certificate is one of Google's CA service, the only host that is asked before the
 * certificate is verified (docs/protocol/verification.md section 4 step 10).
 * @param extraHosts hosts with port that are allowed too, any path: for test roots
 * @param loopback whether this machine is allowed, any port
 */
export function isGoogleCaUrl(text: string, extraHosts: readonly string[], loopback = false): boolean {
  if (text.length > MAX_URL || !URL.canParse(text)) return false;
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return false;
  if (url.username !== '' || url.password !== '' || url.hash !== '' || url.search !== '') return false;
  if (extraHosts.includes(url.host)) return true;
  if (loopback && LOOPBACK.includes(url.hostname)) return true;
  // What a parser would rewrite (dots, escapes, letters) is not an address that Google writes.
  return url.href === text && url.port === '' && HOST.test(url.hostname) && PATH.test(url.pathname);
}
