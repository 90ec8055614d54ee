import { AppError, parseStrictJson } from '@dstack-cloud/app';
import { fromHex } from '@dstack-cloud/encoding';
import { type BootInfo, publicText } from '@dstack-cloud/policy';
import { z } from 'zod';
import { AuthApiError } from './errors.ts';
import { QUESTION_LIMITS } from './question-limits.ts';

/**
 * Hex of exactly `length` bytes, with or without 0x. The original pads short values with zeros, which can turn a
 * 31-byte value into an allowed one; ours refuses them (docs/protocol/contracts.md section 7.1).
 */
function hex(length: number): z.ZodType<Uint8Array> {
  return z
    .string()
    .regex(new RegExp(`^(0x)?[0-9a-fA-F]{${length * 2}}$`), `must be ${length} bytes of hex`)
    .transform((text) => fromHex(text, { prefix: 'allow' }));
}

/** As `hex`, or empty. */
function hexOrEmpty(length: number): z.ZodType<Uint8Array> {
  const empty = z
    .string()
    .regex(/^(0x)?$/)
    .transform(() => new Uint8Array());
  return z.union([empty, hex(length)], `must be ${length} bytes of hex, or empty`);
}

const bodySchema = z.object({
  appId: hex(20),
  composeHash: hex(32),
  instanceId: hexOrEmpty(20),
  deviceId: hex(32),
  mrAggregated: hex(32),
  osImageHash: hex(32),
  mrSystem: hexOrEmpty(32).prefault(''),
  tcbStatus: z.string().max(128).default(''),
  advisoryIds: z.array(z.string().max(256)).max(128).default([]),
  teeVariant: z.string().max(64).optional(),
  attestationMode: z.string().max(64).optional(),
});

/**
 * Read the body of `POST /bootAuth/*` in either generation's dialect; other keys are ignored.
 * @throws AuthApiError `bad-request` naming the first field that does not fit
 */
export function parseBootRequest(body: string): BootInfo {
  let json: unknown;
  try {
    // Strict: of two values under one name the later would win here, and perhaps the earlier elsewhere.
    json = parseStrictJson(body, QUESTION_LIMITS.values);
  } catch (cause) {
    const why = cause instanceof AppError ? `: ${publicText(cause.message)}` : '';
    throw new AuthApiError('bad-request', `the body is not JSON${why}`, { cause });
  }
  const parsed = bodySchema.safeParse(json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new AuthApiError('bad-request', `${issue?.path.join('.') || 'body'}: ${issue?.message}`);
  }
  const { teeVariant, attestationMode, ...facts } = parsed.data;
  const mode = teeVariant ?? attestationMode;
  return { ...facts, keyProviderInfo: new Uint8Array(), ...(mode === undefined ? {} : { mode }) };
}
