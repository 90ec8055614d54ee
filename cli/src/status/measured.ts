export interface Measurements {
  readonly rows: readonly (readonly [string, string])[];
  /** What the local files, the deployment and the running machine disagree about. */
  readonly drift: readonly string[];
}
