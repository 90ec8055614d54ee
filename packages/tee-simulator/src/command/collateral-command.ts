import { TCB_STATUSES } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { collateralServer } from '../collateral/collateral-server.ts';
import { createGcp } from '../gcp/gcp-platform.ts';
import { createPlatform } from '../platform.ts';
import { readArguments } from './arguments.ts';
import { readSeed } from './read-seed.ts';
import { runUntilStopped } from './run-until-stopped.ts';

/** `dstack-tee-simulator collateral`: the certification service of a seed. */
export async function collateralCommand(argv: readonly string[]): Promise<void> {
  const args = readArguments(
    argv,
    ['seed-file', 'port', 'host', 'tcb-status'],
    ['expired', 'exit-with-stdin'],
  );
  const seed = await readSeed(args.required('seed-file'));
  const platform = createPlatform(seed);
  const tcbStatus = args.choice('tcb-status', TCB_STATUSES);
  const host = args.text('host');
  const server = await collateralServer(platform, {
    port: args.integer('port') ?? 0,
    gcp: createGcp(seed),
    ...(host === undefined ? {} : { host }),
    collateral: { expired: args.flag('expired'), ...(tcbStatus === undefined ? {} : { tcbStatus }) },
  });
  const ready = {
    url: server.url,
    port: server.port,
    fmspc: toHex(platform.fmspc),
    root_pem: platform.rootPem,
  };
  await runUntilStopped(server, ready, args.flag('exit-with-stdin'));
}
