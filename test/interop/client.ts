import type { Outcome } from './outcome.ts';

/** Environment of a client's tests: endpoints and vectors. */
export type TestEnvironment = Readonly<Record<string, string>>;

/** One version of one client, ready to run. */
interface InstalledClient {
  run(env: TestEnvironment): Promise<Outcome[]>;
}

/** Why a client cannot run here: a toolchain is missing, or the registry does not have the package. */
export class Unavailable extends Error {}

/** A client library in some language, in the versions that its registry has. */
export interface Client {
  /** Newest first. */
  readonly versions: readonly string[];
  /**
   * Installs one version into a folder of its own, which is kept.
   * @throws Unavailable
   */
  install(version: string, cache: string): Promise<InstalledClient>;
}
