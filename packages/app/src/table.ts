import { z } from 'zod';

/**
 * An object whose names are somebody else's choice. zod leaves `__proto__` out without a word; here it is refused, so that
 * nothing that was written is lost. Read it with `Object.hasOwn` or `Object.entries`: it inherits `constructor` and the like.
 */
export function table<T>(
  value: z.ZodType<T>,
  key: z.ZodType<string> = z.string(),
): z.ZodType<Record<string, T>> {
  return z
    .custom<Record<string, unknown>>(
      (given) => typeof given !== 'object' || given === null || !Object.hasOwn(given, '__proto__'),
      '__proto__ cannot be a name here',
    )
    .pipe(z.record(key as z.ZodString, value)) as unknown as z.ZodType<Record<string, T>>;
}
