/** `dstack-prepare` itself on a simulated TEE, once for each app-compose.json; one machine as long as nothing is measured. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serializeSysConfig } from '@dstack-cloud/app';
import { repository, runCommand } from './run-command.ts';

export interface PrepareProgram {
  /** Hands these over as the host's files and boots. */
  prepare(compose: object, kmsUrl: string): Promise<{ code: number | null; stdout: string; stderr: string }>;
  /** Names of the runtime events so far. */
  measured(): string[];
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 20_000;
const program = (name: string): string => join(repository, 'dist/bin', name);

/** Starts the simulated TEE below `directory`. */
export async function startPrepare(directory: string): Promise<PrepareProgram> {
  const root = join(directory, 'prepare');
  const socket = join(root, 'tsm.sock');
  const shared = join(root, 'tmp/.host-shared');
  mkdirSync(shared, { recursive: true });
  writeFileSync(join(root, 'seed'), new Uint8Array(32).fill(7), { mode: 0o600 });
  const tee = spawn(program('dstack-tee-simulator'), [
    ...['tdx', '--seed-file', join(root, 'seed'), '--socket', socket],
    ...['--state', join(root, 'state.json'), '--image', 'dstack-sim-0.6.0', '--machine', 'prepare'],
  ]);
  const ended = new Promise((resolve) => tee.once('exit', resolve));
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!existsSync(socket)) {
    if (tee.exitCode !== null || Date.now() > deadline) throw new Error('The simulated TEE did not start');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const config = join(root, 'guest.json');
  const log = join(root, 'run/log/dstack/runtime_events.log');
  const device = `unix:${socket}`;
  const devices = { tsm: device, rtmr: device, ccel: device };
  writeFileSync(config, JSON.stringify({ root, devices, event_log: log }));
  return {
    prepare: (compose, kmsUrl) => {
      writeFileSync(join(shared, 'app-compose.json'), JSON.stringify(compose));
      const none = { gatewayUrls: [], pccsUrl: undefined, dockerRegistry: undefined, hostApiUrl: undefined };
      const sys = serializeSysConfig({ ...none, kmsUrls: [kmsUrl], vmConfig: '{}' });
      writeFileSync(join(shared, '.sys-config.json'), sys);
      return runCommand([program('dstack-prepare'), '--config', config]);
    },
    measured: () =>
      existsSync(log)
        ? readFileSync(log, 'utf8')
            .trim()
            .split('\n')
            .map((line) => (JSON.parse(line) as { event: string }).event)
        : [],
    stop: async () => {
      tee.kill('SIGTERM');
      await ended;
      rmSync(root, { recursive: true, force: true });
    },
  };
}
