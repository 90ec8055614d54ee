/** What a supervisor does with its machine, whatever drives it. */
export interface MachineDriver {
  /** Starts everything; returns when the application is up, or `stop` fires. */
  boot(stop: AbortSignal): Promise<void>;
  /** Waits until `stop` fires, or the machine ends as it should; throws when it ends otherwise. */
  runUntil(stop: AbortSignal): Promise<void>;
  /** Ends all of it; what is asked to end in order is ended at once when `hurry` fires. */
  stop(hurry: AbortSignal): Promise<void>;
}
