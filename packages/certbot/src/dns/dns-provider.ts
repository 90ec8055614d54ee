import type { CaaRecord } from '../caa.ts';

/** Writes the records of a zone that a certificate needs. Names have no final dot. */
export interface DnsProvider {
  /**
   * Adds one TXT value and leaves the others of that name alone.
   * @returns removes that value again
   * @throws CertbotError `dns-failed`
   */
  addTxt(name: string, value: string, ttlSeconds: number): Promise<() => Promise<void>>;
  /** CAA records at exactly this name. @throws CertbotError `dns-failed` */
  listCaa(name: string): Promise<readonly CaaRecord[]>;
  /** Adds and removes CAA records of one name in one step where the provider can. @throws CertbotError `dns-failed` */
  changeCaa(name: string, add: readonly CaaRecord[], remove: readonly CaaRecord[]): Promise<void>;
}
