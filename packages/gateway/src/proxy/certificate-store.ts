import { X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { GatewayError } from '../errors.ts';

/** A certificate and its key, PEM. */
export type CertificatePair = { readonly certChain: string; readonly key: string };

type TlsVersions = { readonly minVersion: 'TLSv1.2' | 'TLSv1.3'; readonly maxVersion: 'TLSv1.2' | 'TLSv1.3' };

type Loaded = { readonly context: SecureContext; readonly certificate: X509Certificate };

/** The certificates that the gateway shows, by the domain whose names they cover. */
export class CertificateStore {
  readonly #byDomain = new Map<string, Loaded>();
  readonly #domains = new Set<string>();
  readonly #versions: TlsVersions;
  readonly #now: () => number;

  /** @param now milliseconds since 1970 */
  constructor(versions: TlsVersions, now: () => number = Date.now) {
    this.#versions = versions;
    this.#now = now;
  }

  /** The base domains of this gateway, those too whose certificate is still to come. */
  get domains(): ReadonlySet<string> {
    return this.#domains;
  }

  /** Makes a domain one of this gateway's. */
  add(domain: string): void {
    this.#domains.add(domain);
  }

  /**
   * Shows this certificate from the next handshake on; connections that exist go on.
   * @throws GatewayError `config-invalid` when it does not fit its key, is not in force, or does not cover names one
   * level below the domain; the one before stays
   */
  set(domain: string, { certChain, key }: CertificatePair): void {
    const wrong = (why: string, cause?: unknown): GatewayError =>
      new GatewayError('config-invalid', `The certificate for *.${domain} ${why}`, { cause });
    let loaded: Loaded;
    try {
      const context = createSecureContext({ cert: certChain, key, ...this.#versions });
      loaded = { context, certificate: new X509Certificate(certChain) };
    } catch (cause) {
      throw wrong('or its key cannot be used, or they do not fit each other', cause);
    }
    const { certificate } = loaded;
    const [from, until] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
    if (this.#now() < from || this.#now() > until)
      throw wrong(`is in force from ${certificate.validFrom} to ${certificate.validTo}`);
    if (certificate.checkHost(`any.${domain}`) === undefined) throw wrong('does not cover that name');
    this.#domains.add(domain);
    this.#byDomain.set(domain, loaded);
  }

  /** What to show for names of this domain; undefined when there is none or it has expired. */
  contextFor(domain: string): SecureContext | undefined {
    const loaded = this.#byDomain.get(domain);
    if (loaded === undefined || this.#now() > Date.parse(loaded.certificate.validTo)) return undefined;
    return loaded.context;
  }

  /** PEM of the chain's first certificate. */
  certificateFor(domain: string): X509Certificate | undefined {
    return this.#byDomain.get(domain)?.certificate;
  }
}
