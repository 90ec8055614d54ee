import { TokenBuckets } from '@dstack-cloud/prpc';
import type { Notification } from '../host-api/host-api.ts';
import type { LogFile } from '../logs/log-file.ts';
import type { StateKeeper } from './state-keeper.ts';

/** What a boot says comes to some ten notifications; whatever an application says beyond this is not kept. */
const PER_MINUTE = 600;
const BURST = 100;

/**
 * Takes in what the guest notifies: a bounded number a minute on the console and in the list of events. Where the boot is,
 * and why it failed, is always taken in: it replaces what was said before.
 */
export class GuestNotes {
  readonly #serial: LogFile;
  readonly #keeper: StateKeeper;
  readonly #bucket: TokenBuckets;
  #dropped = 0;

  /** @param clock milliseconds that never go back */
  constructor(serial: LogFile, keeper: StateKeeper, clock: () => number = () => performance.now()) {
    this.#serial = serial;
    this.#keeper = keeper;
    this.#bucket = new TokenBuckets(PER_MINUTE, BURST, clock);
  }

  take(notification: Notification): void {
    this.#keeper.progressed(notification);
    if (!this.#bucket.take('')) {
      this.#dropped += 1;
      return;
    }
    if (this.#dropped > 0)
      this.#serial.append(`[host] ${this.#dropped} notifications were too many, and dropped`);
    this.#dropped = 0;
    this.#serial.append(`[host] ${notification.event}: ${notification.payload}`);
    this.#keeper.notified(notification);
  }
}
