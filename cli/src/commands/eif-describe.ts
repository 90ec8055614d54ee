import { describeEif } from '@dstack-cloud/eif';
import type { Context } from '../context.ts';
import { withEif } from '../eif/with-eif.ts';

/** `eif describe`: what `nitro-cli describe-eif` prints. */
export async function run(context: Context, args: readonly string[]): Promise<undefined> {
  const description = await withEif(context, args[0]!, async (eif) => describeEif(eif));
  context.document(description);
  context.result(description);
  return undefined;
}
