/** moto's server (https://docs.getmoto.org): AWS on loopback, installed from PyPI into a cache outside of the checkout. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from '@dstack-cloud/test/requires';

const VERSION = '5.2.5';
const EXTRAS = 'server,ec2,s3,iam,ssm';
const INSTALL_MS = 300_000;
const START_MS = 120_000;

export interface Moto {
  readonly origin: string;
  /** Forgets everything that was made. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

/** Why moto cannot run here; undefined when it can. */
export function motoMissing(): string | undefined {
  return findProgram('python3') === undefined ? 'python3 is not installed' : undefined;
}

/** Installs it when it is not there. @returns its program */
function installMoto(): string {
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'dstack-cloud');
  const folder = join(cache, `moto-${VERSION}`);
  // Python, not the script beside it: a script names the folder that it was installed into.
  const python = join(folder, 'bin/python');
  if (existsSync(python)) return python;
  mkdirSync(cache, { recursive: true });
  const staged = mkdtempSync(join(cache, 'moto-'));
  try {
    execFileSync('python3', ['-m', 'venv', staged], { stdio: 'pipe', timeout: INSTALL_MS });
    const pip = ['-m', 'pip', 'install', '-q', '--disable-pip-version-check', `moto[${EXTRAS}]==${VERSION}`];
    execFileSync(join(staged, 'bin/python'), pip, { stdio: 'pipe', timeout: INSTALL_MS });
    renameSync(staged, folder);
  } finally {
    rmSync(staged, { recursive: true, force: true });
  }
  return python;
}

export async function startMoto(): Promise<Moto> {
  const python = installMoto();
  const port = await freePort();
  const child: ChildProcess = spawn(
    python,
    ['-c', 'from moto.server import main; main()', '-H', '127.0.0.1', '-p', String(port)],
    {
      stdio: 'ignore',
      env: {
        PATH: process.env['PATH'],
        MOTO_IAM_LOAD_MANAGED_POLICIES: 'true',
        MOTO_EC2_LOAD_DEFAULT_AMIS: 'true',
      },
    },
  );
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const origin = `http://127.0.0.1:${port}`;
  const deadline = Date.now() + START_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`moto's server ended with ${child.exitCode}`);
    const answer = await fetch(`${origin}/moto-api/data.json`).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok === true) break;
    if (Date.now() > deadline) throw new Error("moto's server does not answer");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    origin,
    reset: async () => {
      const answer = await fetch(`${origin}/moto-api/reset`, { method: 'POST' });
      if (!answer.ok) throw new Error(`moto: ${answer.status}`);
    },
    close: async () => {
      child.kill();
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}
