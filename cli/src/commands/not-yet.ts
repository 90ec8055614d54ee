import type { Context } from '../context.ts';
import { notYet } from '../platforms/not-yet.ts';

/** Documented commands whose platform this version does not have. */
export async function run(_context: Context): Promise<never> {
  throw notYet('This command belongs to platform gcp');
}
