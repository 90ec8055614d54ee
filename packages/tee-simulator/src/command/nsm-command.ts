import { fromHex } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import { createNitro, type SimulatedNitro } from '../nitro/nitro-platform.ts';
import { nsmEndpoint } from '../nitro/nsm-endpoint.ts';
import { type Arguments, readArguments } from './arguments.ts';
import { readSeed } from './read-seed.ts';
import { runUntilStopped } from './run-until-stopped.ts';

/** Registers of an image that was measured. */
const PCR_OPTIONS = ['pcr0', 'pcr1', 'pcr2'];
const PCR_BYTES = 48;

/** `dstack-tee-simulator nsm`: the security module of one boot of a simulated enclave. */
export async function nsmCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(
    argv,
    ['seed-file', 'socket', 'machine', 'image', ...PCR_OPTIONS],
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
  setPcrs(nitro, args);
  const endpoint = await nsmEndpoint(nitro, { socketPath });
  const ready = { socket: socketPath, module_id: nitro.moduleId, root_pem: nitro.rootPem };
  await runUntilStopped(endpoint, ready, args.flag('exit-with-stdin'));
}

/** @throws SimulatorError `argument` */
function setPcrs(nitro: SimulatedNitro, args: Arguments): void {
  for (const [index, name] of PCR_OPTIONS.entries()) {
    const text = args.text(name);
    if (text === undefined) continue;
    if (args.flag('debug-enclave'))
      throw new SimulatorError(
        'argument',
        `--${name} does not go with --debug-enclave: a debug enclave has zero registers`,
      );
    if (!/^[0-9a-f]{96}$/.test(text))
      throw new SimulatorError('argument', `--${name} must be ${PCR_BYTES} bytes in lower-case hex`);
    nitro.pcrs[index]!.value = fromHex(text);
  }
}
