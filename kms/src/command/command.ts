import type { KmsConfig } from '../config/kms-config.ts';
import type { Log } from '../telemetry/log.ts';

/** What a subcommand works with. */
export type CommandContext = {
  /** The configuration in effect. @throws KmsError */
  load(file: string | undefined): KmsConfig;
  /** Unix seconds. */
  readonly now: () => number;
  /** Written to stderr, so that stdout is the result alone. */
  readonly log: Log;
  /** One JSON object on stdout. */
  print(result: Record<string, unknown>): void;
};

/** A subcommand that does one thing and ends. */
export type Command = {
  readonly usage: string;
  readonly summary: string;
  run(args: readonly string[], context: CommandContext): Promise<void>;
};

/** Options that every subcommand has. */
export const COMMON_OPTIONS = { config: { type: 'string', short: 'c' } } as const;
