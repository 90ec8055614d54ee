import { join } from 'node:path';
import { FilesError, isThere, makeOwnDirectory, withLock } from '@dstack-cloud/files';
import { type Logger, parseGuestConfig, serveAgent, warnIfSimulated } from '@dstack-cloud/guest-agent';
import { SimulatorError } from '@dstack-cloud/tee-simulator';
import { type FixtureFiles, filesOfConfig, fixtureFiles } from './fixture-identity.ts';
import type { SimulatorOptions } from './options.ts';
import { bootOwnMachine } from './own-identity.ts';
import { relayTcp } from './relay-tcp.ts';
import { checkSocketFolder, type Sockets, socketsIn } from './socket-folder.ts';

/** A simulator that serves. */
export interface RunningSimulator {
  readonly simulated: true;
  readonly identity: 'fixture' | 'own';
  readonly sockets: Sockets;
  /** Of `--listen`. */
  readonly url?: string;
  /** Of an own identity: what a verifier must be told to accept its evidence. */
  readonly rootFile?: string;
  readonly collateralUrl?: string;
  close(): Promise<void>;
}

const LOCK = 'simulator';

/**
 * Starts a simulator.
 *
 * @throws SimulatorError; GuestError and AppError for a broken fixture
 */
export async function startSimulator(options: SimulatorOptions, log: Logger): Promise<RunningSimulator> {
  const sockets = socketsIn(options.directory);
  const fixture = chooseFixture(options);
  await checkSocketFolder(options.directory, sockets);
  const state = join(options.directory, '.dstack-simulator');
  makeOwnDirectory(state);
  const release = await holdLock(state);
  try {
    const started = await start(options, { sockets, fixture, state, log });
    return { ...started, close: () => started.close().finally(release) };
  } catch (error) {
    release();
    throw error;
  }
}

function chooseFixture({ fixture, config, directory }: SimulatorOptions): FixtureFiles | undefined {
  if (fixture !== undefined) return fixtureFiles(fixture);
  if (config !== undefined) return filesOfConfig(config);
  const original = join(directory, 'dstack.toml');
  return isThere(original) ? filesOfConfig(original) : undefined;
}

/** Of two simulators that start in a folder at once, one is refused. */
async function holdLock(state: string): Promise<() => void> {
  const what = `The simulator in ${state}`;
  return await new Promise((resolve, reject) => {
    const held = withLock(state, LOCK, { waitMs: 0, what }, () => new Promise<void>((done) => resolve(done)));
    held.catch((cause: unknown) => {
      const isHeld = cause instanceof FilesError && cause.code === 'locked';
      if (!isHeld) return reject(cause as Error);
      const text = `A simulator already runs in this folder (${cause.found ?? 'another process'}); stop it or use another folder`;
      reject(new SimulatorError('listen', text, { cause }));
    });
  });
}

interface Parts {
  readonly sockets: Sockets;
  readonly fixture: FixtureFiles | undefined;
  readonly state: string;
  readonly log: Logger;
}

async function start(options: SimulatorOptions, parts: Parts): Promise<RunningSimulator> {
  const { sockets, fixture, state, log } = parts;
  const listen = {
    dstack_sock: sockets.dstack,
    tappd_sock: sockets.tappd,
    external: `unix:${sockets.external}`,
    guest_api: `unix:${sockets.guest}`,
  };
  const machine =
    fixture === undefined
      ? await bootOwnMachine({ state, appCompose: options.appCompose, sockets: listen, log })
      : undefined;
  const config =
    machine?.config ??
    parseGuestConfig(JSON.stringify({ root: state, run_dir: state, listen, simulator: fixture }), state);
  warnIfSimulated(config, log);
  const closers: (() => void | Promise<void>)[] = machine === undefined ? [] : [() => machine.close()];
  const close = async (): Promise<void> => {
    for (const one of closers.splice(0).reverse()) await one();
  };
  try {
    const served = await serveAgent(config, log);
    closers.push(() => served.close());
    const relay = options.listen === undefined ? undefined : await relayTcp(options.listen, sockets.tappd);
    if (relay !== undefined) closers.push(() => relay.close());
    return {
      simulated: true,
      identity: fixture === undefined ? 'own' : 'fixture',
      sockets,
      ...(relay === undefined ? {} : { url: relay.url }),
      ...(machine === undefined ? {} : { rootFile: machine.rootFile, collateralUrl: machine.collateralUrl }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
