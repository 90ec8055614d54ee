import type { AppCompose } from '@dstack-cloud/app';
import type { KeyName } from '@dstack-cloud/ra-tls';

/** A disk key (32 bytes), and which one it is where a key service gave it. */
export interface DiskKey {
  readonly key: Uint8Array;
  readonly name: KeyName | undefined;
}

/** Where a machine keeps the data of its application. */
export interface Storage {
  /**
   * Refuses what this machine cannot give, before keys are asked for.
   *
   * @returns which keys the disk was made with; undefined where nothing is encrypted, or not yet
   * @throws GuestError
   */
  check(): Promise<KeyName | undefined>;
  /** Makes the data folder ready. The present key first, then older ones. @throws GuestError */
  open(compose: AppCompose, keys: readonly DiskKey[]): Promise<void>;
}
