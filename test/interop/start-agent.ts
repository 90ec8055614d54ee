import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fixturePath } from '@dstack-cloud/test/fixtures';
import { resolveProgram } from '@dstack-cloud/vmm';

const READY_MS = 20_000;

/** A running guest agent with the identity of the simulator fixtures. */
export interface RunningAgent {
  readonly dstackSocket: string;
  readonly tappdSocket: string;
  readonly pid: number;
  /** From the start of the process to its ready line. */
  readonly readyMs: number;
  stop(): Promise<void>;
}

/** Starts the real program and waits for its ready line. */
export async function startAgent(): Promise<RunningAgent> {
  const directory = mkdtempSync(join(tmpdir(), 'dstack-interop-'));
  const config = {
    root: directory,
    run_dir: directory,
    listen: { external: null },
    simulator: {
      keys_file: fixturePath('simulator/appkeys.json'),
      compose_file: fixturePath('simulator/app-compose.json'),
      sys_config_file: fixturePath('simulator/sys-config.json'),
      attestation_file: fixturePath('simulator/attestation.bin'),
    },
  };
  const file = join(directory, 'guest.json');
  writeFileSync(file, JSON.stringify(config));
  const [program = '', ...args] = [...resolveProgram('dstack-guest-agent'), '--config', file];
  const started = performance.now();
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await new Promise<void>((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('The agent did not get ready')), READY_MS);
    child.stdout.once('data', () => {
      clearTimeout(late);
      resolve();
    });
    void closed.then(() => reject(new Error('The agent ended')));
  });
  const readyMs = performance.now() - started;
  return {
    pid: child.pid ?? 0,
    readyMs,
    dstackSocket: join(directory, 'dstack.sock'),
    tappdSocket: join(directory, 'tappd.sock'),
    stop: async () => {
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), 5_000);
      await closed;
      clearTimeout(late);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
