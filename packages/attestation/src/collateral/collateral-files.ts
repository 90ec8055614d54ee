/** Keeps texts by name, so that collateral survives a restart. */
export interface CollateralFiles {
  /** Undefined when there is none, or it cannot be read. */
  read(name: string): Promise<string | undefined>;
  write(name: string, text: string): Promise<void>;
  remove(name: string): Promise<void>;
}
