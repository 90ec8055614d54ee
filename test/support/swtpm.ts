/** A software TPM of its own for each test, provisioned once and copied. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from './requires.ts';

const START_TIMEOUT_MS = 10_000;
const PROVISION_TIMEOUT_MS = 60_000;

/** A running software TPM. */
export interface SoftwareTpm {
  /** `unix:PATH` of its data channel. */
  readonly location: string;
  /** The same for tpm2-tools: the value of TPM2TOOLS_TCTI. */
  readonly tcti: string;
  /** Ends it and starts it again on the same state, as a reboot does: PCRs are new, NV and keys stay. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

let provisioned: string | undefined;

/** `describe` for tests that need swtpm; skipped with the reason where it is absent. */
export function describeWithSwtpm(name: string, body: () => void): void {
  describeWithPrograms(name, ['swtpm', 'swtpm_setup'], body);
}

/** Starts a TPM with SHA-256 and SHA-384 banks on a fresh state. */
export async function startSwtpm(): Promise<SoftwareTpm> {
  const directory = mkdtempSync(join(tmpdir(), 'swtpm-'));
  const state = join(directory, 'state');
  cpSync(provision(), state, { recursive: true });
  let child = await start(directory, state);
  return {
    location: `unix:${join(directory, 's')}`,
    tcti: `swtpm:path=${join(directory, 's')}`,
    async restart() {
      await end(child);
      child = await start(directory, state);
    },
    async stop() {
      await end(child);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** The state of a new TPM; making one takes most of a second. */
function provision(): string {
  if (provisioned === undefined) {
    provisioned = mkdtempSync(join(tmpdir(), 'swtpm-new-'));
    const directory = provisioned;
    process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    const state = join(directory, 'state');
    mkdirSync(state);
    const args = ['--tpm2', '--tpmstate', state, '--overwrite', '--pcr-banks', 'sha256,sha384'];
    execFileSync('swtpm_setup', args, { stdio: 'ignore', timeout: PROVISION_TIMEOUT_MS });
  }
  return join(provisioned, 'state');
}

async function start(directory: string, state: string): Promise<ChildProcess> {
  const path = join(directory, 's');
  rmSync(path, { force: true });
  const child = spawn(
    'swtpm',
    [
      ...['socket', '--tpm2', '--tpmstate', `dir=${state}`],
      ...['--server', `type=unixio,path=${path}`, '--ctrl', `type=unixio,path=${path}.ctrl`],
      ...['--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: 'ignore' },
  );
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!existsSync(path) || !(await answers(path))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error('swtpm did not start');
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return child;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}
