import { createPlatform } from '../platform.ts';
import { readArguments } from './arguments.ts';
import { readSeed } from './read-seed.ts';

/** `dstack-tee-simulator root`: the test root of a seed, PEM, for a verifier's configuration. */
export async function rootCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(argv, ['seed-file'], []);
  process.stdout.write(createPlatform(await readSeed(args.required('seed-file'))).rootPem);
}
