/** Why the simulator refuses to start or to answer. The list is closed. */
export type SimulatorErrorCode =
  /** An argument of the command line or of a function that cannot be used. */
  | 'argument'
  /** A state or seed file that cannot be read, written or understood. */
  | 'state'
  /** A socket or port that cannot be had. */
  | 'listen';

/** The only error that this package throws. */
export class SimulatorError extends Error {
  readonly code: SimulatorErrorCode;

  constructor(code: SimulatorErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'SimulatorError';
    this.code = code;
  }
}
