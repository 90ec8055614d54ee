import { createGcp } from '../gcp/gcp-platform.ts';
import { createNitro } from '../nitro/nitro-platform.ts';
import { createPlatform } from '../platform.ts';
import { readArguments } from './arguments.ts';
import { readSeed } from './read-seed.ts';

const ROOTS = { tdx: createPlatform, 'gcp-tpm': createGcp, nitro: createNitro } as const;

/** `dstack-tee-simulator root`: a test root of a seed, PEM, for a verifier's configuration. */
export async function rootCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(argv, ['seed-file', 'kind'], []);
  const kind = args.choice('kind', ['tdx', 'gcp-tpm', 'nitro']) ?? 'tdx';
  process.stdout.write(ROOTS[kind](await readSeed(args.required('seed-file'))).rootPem);
}
