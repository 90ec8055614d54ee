import { printable, printableJson, printableMessage } from '@dstack-cloud/encoding';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { createLogger } from '@dstack-cloud/guest-agent';
import { errorChain } from '@dstack-cloud/runtime';
import { SimulatorError } from '@dstack-cloud/tee-simulator';
import { readOptions, USAGE } from './options.ts';
import { type RunningSimulator, startSimulator } from './start-simulator.ts';

const VERSION = '0.1.0';

async function main(argv: readonly string[]): Promise<void> {
  const options = readOptions(argv);
  if (options === 'help' || options === 'version') {
    process.stdout.write(options === 'help' ? USAGE : `dstack-simulator ${VERSION}\n`);
    return;
  }
  const stopped = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve());
  });
  const simulator = await startSimulator(options, createLogger('dstack-simulator'));
  if (options.json) process.stdout.write(`${printableJson(readyJson(simulator))}\n`);
  else for (const line of readyLines(simulator)) process.stdout.write(`${printable(line)}\n`);
  await stopped;
  await simulator.close();
}

function readyJson({ sockets, identity, url, rootFile, collateralUrl }: RunningSimulator): string {
  const ready = {
    ready: true,
    simulated: true,
    identity,
    ...sockets,
    url,
    root_ca: rootFile,
    collateral_url: collateralUrl,
  };
  return JSON.stringify(ready);
}

function readyLines({ sockets, identity, url, rootFile, collateralUrl }: RunningSimulator): string[] {
  const lines = [
    `dstack-simulator ready (SIMULATED, ${identity === 'own' ? 'identity of this folder' : 'recorded identity'})`,
    `export DSTACK_SIMULATOR_ENDPOINT=${sockets.dstack}`,
    `export TAPPD_SIMULATOR_ENDPOINT=${sockets.tappd}`,
  ];
  if (url !== undefined) lines.push(`by TCP: ${url}`);
  if (rootFile !== undefined) lines.push(`test root: ${rootFile}`, `collateral: ${collateralUrl}`);
  return lines;
}

surviveClosedOutput();
main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error: unknown) => {
    const text = error instanceof SimulatorError ? error.message : errorChain(error);
    process.stderr.write(`dstack-simulator: ${printableMessage(text)}\n`);
    process.exit(error instanceof SimulatorError && error.code === 'argument' ? 2 : 1);
  },
);
