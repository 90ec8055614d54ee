import { BoundedMap } from './bounded-map.ts';

/** A map that forgets the entry used longest ago once it would hold more than `limit`; values are never undefined. */
export class LruCache<K, V extends NonNullable<unknown>> extends BoundedMap<K, V> {
  /** Reads an entry and makes it the newest. */
  override get(key: K): V | undefined {
    const value = super.get(key);
    if (value !== undefined) this.set(key, value);
    return value;
  }
}
