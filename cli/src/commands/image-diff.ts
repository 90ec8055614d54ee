import { diffImages } from '@dstack-cloud/os-image';
import type { Context } from '../context.ts';
import { findImage } from '../image/find-image.ts';

/** `image diff`: what makes two images differ; exit code 1 when something does, as diff has it. */
export async function run(context: Context, args: readonly string[]): Promise<number> {
  const differences = await diffImages(
    await findImage(context, args[0]!),
    await findImage(context, args[1]!),
  );
  context.result(
    differences.map(({ what, before, after }) => ({ what, before: before ?? null, after: after ?? null })),
  );
  if (differences.length === 0) context.print('The images are equal, byte for byte');
  for (const { what, before, after } of differences)
    context.print(`${what}: ${before ?? '(absent)'} -> ${after ?? '(absent)'}`);
  return differences.length === 0 ? 0 : 1;
}
