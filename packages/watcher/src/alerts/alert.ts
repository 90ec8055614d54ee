import { z } from 'zod';

export const SEVERITIES = ['info', 'warning', 'critical'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** Graver ones have higher numbers. */
export const rank = (severity: Severity): number => SEVERITIES.indexOf(severity);

/** One message to the operator. */
export type Alert = {
  /** The same for the same thing: who hears it twice can tell. */
  readonly id: string;
  readonly rule: string;
  readonly severity: Severity;
  readonly text: string;
  /** Unix seconds: of the block, or of what was noticed. */
  readonly time: number;
  readonly contract?: string | undefined;
  readonly event?: string | undefined;
  readonly block?: number | undefined;
  readonly transaction?: string | undefined;
  /** Who did it, as far as the chain says. */
  readonly actor?: string | undefined;
};

const text = z.string().max(4096);

export const alertSchema: z.ZodType<Alert> = z.strictObject({
  id: text,
  rule: text,
  severity: z.enum(SEVERITIES),
  text,
  time: z.int().min(0),
  contract: text.optional(),
  event: text.optional(),
  block: z.int().min(0).optional(),
  transaction: text.optional(),
  actor: text.optional(),
});
