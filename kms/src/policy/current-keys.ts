import { toHex } from '@dstack-cloud/encoding';
import type { Decision } from '@dstack-cloud/policy';
import { BoundedMap } from '@dstack-cloud/runtime';

/** Applications remembered; the one that asked longest ago is forgotten. */
const MAX_REMEMBERED = 10_000;

/** What a policy source may say about keys. */
export type KeyDecision = Pick<Decision, 'keyEpoch' | 'minKeyEpoch' | 'keyRoot' | 'previousKeyRoots'>;

/** What was last said of an application, by its id in hex; null when nothing was. */
export type KeyNews = readonly [appId: string, said: KeyDecision | null];

/**
 * What the policy source last said about an application's keys, when it allowed evidence of that application. Who
 * seals an environment shows no evidence, so that the source cannot be asked for him; he gets the key that machines got
 * last. Nothing is decided by this, and nothing of it outlives the service.
 */
export class CurrentKeys {
  readonly #known = new BoundedMap<string, KeyDecision>(MAX_REMEMBERED);
  /** Tells the other processes of this service what this one hears; set by those that have any. */
  tell: ((news: KeyNews) => void) | undefined;

  /** Remembers what a decision that allowed verified evidence said. */
  note(appId: Uint8Array, { keyEpoch, minKeyEpoch, keyRoot, previousKeyRoots }: Decision): void {
    // Sources that say nothing leave it to the configuration, which is at hand.
    const isSilent = keyEpoch === undefined && keyRoot === undefined && previousKeyRoots === undefined;
    const said = {
      ...(keyEpoch === undefined ? {} : { keyEpoch }),
      ...(minKeyEpoch === undefined ? {} : { minKeyEpoch }),
      ...(keyRoot === undefined ? {} : { keyRoot }),
      ...(previousKeyRoots === undefined ? {} : { previousKeyRoots }),
    };
    const name = toHex(appId);
    const before = this.#known.get(name);
    if (isSilent && before === undefined) return;
    const news: KeyNews = [name, isSilent ? null : said];
    this.learn([news]);
    if (JSON.stringify(before) !== JSON.stringify(news[1])) this.tell?.(news);
  }

  /** What was said last; empty when nothing was. */
  of(appId: Uint8Array): KeyDecision {
    return this.#known.get(toHex(appId)) ?? {};
  }

  /** All that is remembered, for a process that begins. */
  all(): KeyNews[] {
    return [...this.#known];
  }

  /** Takes over what another process of this service heard. */
  learn(news: readonly KeyNews[]): void {
    for (const [name, said] of news) {
      if (said === null) this.#known.delete(name);
      else this.#known.set(name, said);
    }
  }
}
