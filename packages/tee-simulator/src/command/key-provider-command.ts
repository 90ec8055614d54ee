import { toHex } from '@dstack-cloud/encoding';
import { keyProvider } from '../key-provider/key-provider.ts';
import { readArguments } from './arguments.ts';
import { readSeed } from './read-seed.ts';
import { runUntilStopped } from './run-until-stopped.ts';

/** `dstack-tee-simulator key-provider`: the SGX enclave behind key provider `local`. */
export async function keyProviderCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(argv, ['seed-file', 'port', 'host'], ['exit-with-stdin']);
  const host = args.text('host');
  const provider = await keyProvider(await readSeed(args.required('seed-file')), {
    port: args.integer('port') ?? 0,
    ...(host === undefined ? {} : { host }),
  });
  const ready = { port: provider.port, mr_enclave: toHex(provider.mrEnclave) };
  await runUntilStopped(provider, ready, args.flag('exit-with-stdin'));
}
