import { InFlight, LruCache } from '@dstack-cloud/runtime';
import { type AppAddress, parseAppAddress } from './app-address.ts';

/** Records of one name, each as its character strings; as `resolveTxt` of node:dns, with the time to live. */
export type TxtAnswer = { readonly records: readonly (readonly string[])[]; readonly ttlSeconds?: number };

/** Asks for TXT records; no record is an empty answer, anything else an error. */
export type TxtLookup = (name: string) => Promise<TxtAnswer>;

export type AppAddressOptions = {
  readonly lookup: TxtLookup;
  /** `_dstack-app-address` unless configured. */
  readonly prefix: string;
  /** Also ask for the record's older name. */
  readonly legacy: boolean;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
};

const LEGACY_PREFIX = '_tapp-address';
const MAX_NAMES = 4_096;
const MAX_RECORDS = 8;
/** A name keeps its answer at least so long, so that one name costs one question, and at most so long. */
const MIN_TTL_SECONDS = 5;
const MAX_TTL_SECONDS = 600;
const NEGATIVE_TTL_SECONDS = 10;
/** Questions under way at once, over all names. */
const MAX_UNDER_WAY = 1_024;

type Known = { readonly addresses: readonly AppAddress[]; readonly until: number };

/** Looks up which application a custom domain belongs to, and remembers it. */
export class AppAddressResolver {
  readonly #options: AppAddressOptions;
  readonly #now: () => number;
  readonly #known = new LruCache<string, Known>(MAX_NAMES);
  readonly #underWay = new InFlight<string, Known>();

  constructor(options: AppAddressOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /**
   * @param name lower case, no final dot
   * @returns addresses in the order of the answer; empty when the domain names none
   * @throws Error when the question failed or too many are under way
   */
  async resolve(name: string): Promise<readonly AppAddress[]> {
    const known = this.#known.get(name);
    if (known !== undefined && this.#now() < known.until) return known.addresses;
    if (this.#underWay.get(name) === undefined && this.#underWay.size >= MAX_UNDER_WAY)
      throw new Error('too many lookups of custom domains are under way');
    const { addresses } = await this.#underWay.run(name, async () => {
      const found = await this.#find(name);
      this.#known.set(name, found);
      return found;
    });
    return addresses;
  }

  /** The exact name first, its older form beside it; then the record for all names of the parent. */
  async #find(name: string): Promise<Known> {
    const { prefix, legacy } = this.#options;
    const exact = await this.#first(
      [prefix, ...(legacy && prefix !== LEGACY_PREFIX ? [LEGACY_PREFIX] : [])].map((one) => `${one}.${name}`),
    );
    if (exact.addresses.length > 0) return exact;
    const parent = name.slice(name.indexOf('.') + 1);
    return name.includes('.') ? this.#first([`${prefix}-wildcard.${parent}`]) : exact;
  }

  async #first(names: readonly string[]): Promise<Known> {
    const answers = await Promise.all(names.map((one) => this.#options.lookup(one)));
    for (const { records, ttlSeconds = MIN_TTL_SECONDS } of answers) {
      const addresses = records.slice(0, MAX_RECORDS).flatMap(([text = '']) => parseAppAddress(text) ?? []);
      const seconds = Math.min(Math.max(ttlSeconds, MIN_TTL_SECONDS), MAX_TTL_SECONDS);
      if (addresses.length > 0) return { addresses, until: this.#now() + seconds * 1000 };
    }
    return { addresses: [], until: this.#now() + NEGATIVE_TTL_SECONDS * 1000 };
  }
}
