import { toHex } from '@dstack-cloud/encoding';
import { createPlatform } from '../platform.ts';
import { DEBUG_ATTRIBUTES } from '../tdx/td-state.ts';
import { openStateFile } from '../tsm/state-file.ts';
import { tsmEndpoint } from '../tsm/tsm-endpoint.ts';
import { readArguments } from './arguments.ts';
import { bootArguments, MACHINE_OPTIONS, machineArguments } from './machine-arguments.ts';
import { readSeed } from './read-seed.ts';
import { runUntilStopped } from './run-until-stopped.ts';

/** `dstack-tee-simulator tdx`: one boot of one simulated TD; RTMR3 starts at zero. */
export async function tdxCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(
    argv,
    ['seed-file', 'socket', 'state', 'machine', 'quote-version', ...MACHINE_OPTIONS],
    ['debug-td', 'exit-with-stdin'],
  );
  const statePath = args.required('state');
  const machine = args.text('machine') ?? '';
  const description = machineArguments(args);
  const platform = createPlatform(await readSeed(args.required('seed-file')), { machine });
  const boot = await bootArguments(args);
  // Before the socket exists: no extension may happen that the state does not see.
  const state = await openStateFile(statePath, {
    machine,
    image: description.image,
    mrTd: boot.mrTd,
    rtmrs: [...boot.rtmrs, new Uint8Array(48)],
  });
  const endpoint = await tsmEndpoint(platform, {
    ...description,
    boot,
    socketPath: args.required('socket'),
    quote: { version: args.choice('quote-version', ['4', '5']) === '5' ? 5 : 4 },
    ...(args.flag('debug-td') ? { td: { tdAttributes: DEBUG_ATTRIBUTES } } : {}),
    onExtend: (rtmrs) => state.save(rtmrs),
  });
  const { device } = endpoint;
  const ready = {
    socket: endpoint.socketPath,
    machine,
    image: description.image,
    boot: state.boot,
    mrtd: toHex(device.mrTd),
    ...Object.fromEntries(device.rtmrs.map((register, i) => [`rtmr${i}`, toHex(register)])),
  };
  await runUntilStopped(endpoint, ready, args.flag('exit-with-stdin'));
}
