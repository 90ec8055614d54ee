import { BoundedMap } from '@dstack-cloud/runtime';
import { PolicyError } from '../../errors.ts';
import { outageReason } from '../../outage-reasons.ts';
import type { Block } from '../rpc/block.ts';

/** Heads that are remembered by their numbers. */
const MAX_HEADS = 256;

/**
 * The heads that decisions were made at. A backend that is behind the others would bring a time back in which a
 * revocation was not there yet, so a head must not be an ancestor of one before.
 */
export class KnownHeads {
  #latest: Block | undefined;
  /** By number; all on the branch of the latest, as far as that is known. */
  readonly #hashes = new BoundedMap<bigint, string>(MAX_HEADS);

  get latest(): Block | undefined {
    return this.#latest;
  }

  note(head: Block): void {
    for (const number of this.#hashes.keys()) if (number > head.number) this.#hashes.delete(number);
    this.#hashes.set(head.number, head.hash);
    this.#latest = head;
  }

  /**
   * Whether a lower head may be an ancestor. Ancestors are not later, and are the blocks that were there: a block that
   * is later, or another one, is on a branch of its own, and the chain became shorter. What cannot be told apart counts
   * as behind, until the chain is as long as it was, or later.
   */
  isBehind({ number, timestamp, hash }: Block): boolean {
    const latest = this.#latest;
    if (!latest || number >= latest.number || timestamp > latest.timestamp) return false;
    const seen = this.#hashes.get(number);
    return seen === undefined || seen === hash;
  }

  /** @throws PolicyError `chain-stale` */
  assertNotBehind(head: Block): void {
    if (this.isBehind(head)) throw new PolicyError('chain-stale', outageReason.stale);
  }
}
