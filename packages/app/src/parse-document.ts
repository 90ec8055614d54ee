import { utf8Text } from '@dstack-cloud/encoding';
import type { z } from 'zod';
import { AppError, type AppErrorCode } from './errors.ts';
import { parseStrictJson } from './strict-json.ts';

/**
 * Strict JSON, then a schema; every failure becomes one AppError that names the document and the member.
 *
 * @throws AppError with the given code
 */
export function parseDocument<T>(
  source: Uint8Array | string,
  schema: z.ZodType<T>,
  code: AppErrorCode,
  name: string,
): T {
  const result = schema.safeParse(parseJson(source, code, name));
  if (result.success) return result.data;
  const problems = result.error.issues.map(
    (issue) => `${issue.path.join('.') || '(document)'}: ${issue.message}`,
  );
  throw new AppError(code, `${name}: ${problems.join('; ')}`);
}

function parseJson(source: Uint8Array | string, code: AppErrorCode, name: string): unknown {
  try {
    return parseStrictJson(typeof source === 'string' ? source : utf8Text(source));
  } catch (cause) {
    throw new AppError(code, `${name}: ${(cause as Error).message}`, { cause });
  }
}
