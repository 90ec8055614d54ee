/** Subcommands of `dstack-kms` in a machine of the lab. */
import type { KmsHost } from './kms-lab.ts';
import type { KmsProcess, KmsRun } from './kms-process.ts';

/** How a subcommand ended: its exit code, all it said, and its result, the JSON on its standard output. */
export type SubcommandEnd = {
  readonly code: number | null;
  readonly output: string;
  readonly result: Record<string, unknown>;
};

export async function subcommand(
  host: KmsHost,
  args: readonly string[],
  options: Pick<KmsRun, 'env' | 'preload'> = {},
): Promise<SubcommandEnd> {
  const run = host.run({ args, ...options });
  const code = await run.ended();
  const json = run
    .output()
    .split('\n')
    .findLast((line) => line.startsWith('{') && !line.includes('"level"'));
  return { code, output: run.output(), result: JSON.parse(json ?? '{}') as Record<string, unknown> };
}

/** Stops the key service, runs a subcommand on its key directory, starts it again. */
export async function whileStopped(
  host: KmsHost,
  kms: KmsProcess,
  ...args: string[]
): Promise<{ kms: KmsProcess; result: Record<string, unknown> }> {
  await kms.stop();
  const { code, output, result } = await subcommand(host, args);
  if (code !== 0) throw new Error(`dstack-kms ${args.join(' ')} ended with ${code}:\n${output}`);
  return { kms: await host.serve(), result };
}
