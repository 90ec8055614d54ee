/** Where to begin reading for a record: one place in 256 is remembered. */
export class RecordIndex {
  readonly #places: Array<{ readonly seq: number; readonly path: string; readonly offset: number }> = [];

  /** Tells of a record; only some are kept. */
  note(seq: number, path: string, offset: number): void {
    if (offset === 0 || seq % 256 === 0) this.#places.push({ seq, path, offset });
  }

  /** Forgets what lies before record `seq`. */
  forgetBefore(seq: number): void {
    const keep = this.#places.findIndex((place) => place.seq >= seq);
    this.#places.splice(0, keep < 0 ? this.#places.length : keep);
  }

  /** The remembered places from the last one at or before `seq` on; the first when `seq` lies before all. */
  from(seq: number): ReadonlyArray<{ seq: number; path: string; offset: number }> {
    const after = this.#places.findIndex((place) => place.seq > seq);
    const start = after < 0 ? this.#places.length - 1 : Math.max(0, after - 1);
    return this.#places.slice(Math.max(0, start));
  }
}
