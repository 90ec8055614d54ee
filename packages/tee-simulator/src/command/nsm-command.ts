import { createNitro } from '../nitro/nitro-platform.ts';
import { nsmEndpoint } from '../nitro/nsm-endpoint.ts';
import { readArguments } from './arguments.ts';
import { readSeed } from './read-seed.ts';
import { runUntilStopped } from './run-until-stopped.ts';

/** `dstack-tee-simulator nsm`: the security module of one boot of a simulated enclave. */
export async function nsmCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(
    argv,
    ['seed-file', 'socket', 'machine', 'image'],
    ['debug-enclave', 'exit-with-stdin'],
  );
  const socketPath = args.required('socket');
  const machine = args.text('machine');
  const image = args.text('image');
  const nitro = createNitro(await readSeed(args.required('seed-file')), {
    debug: args.flag('debug-enclave'),
    ...(machine === undefined ? {} : { machine }),
    ...(image === undefined ? {} : { image }),
  });
  const endpoint = await nsmEndpoint(nitro, { socketPath });
  const ready = { socket: socketPath, module_id: nitro.moduleId, root_pem: nitro.rootPem };
  await runUntilStopped(endpoint, ready, args.flag('exit-with-stdin'));
}
