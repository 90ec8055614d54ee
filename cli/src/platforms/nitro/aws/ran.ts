/** How a script ended on a host. */
export interface Ran {
  /** Undefined for success. */
  readonly how: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}
