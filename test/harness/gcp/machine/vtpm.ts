import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { endWithTest } from '../../vm/end-with-test.ts';

const START_MS = 30_000;
const TOOL_MS = 60_000;
/** What swtpm stores of a TPM that is switched on; it goes on from there. */
const VOLATILE = 'tpm2-00.volatilestate';

/**
 * The vTPM of an instance: its keys and what it has sealed live as long as the instance, its registers as long as it is
 * switched on. The emulated firmware uses it first; then it is handed to QEMU in the state that the firmware left.
 */
export class Vtpm {
  readonly #state: string;
  readonly #data: string;
  readonly #control: string;
  #process: ChildProcess | undefined;

  constructor(folder: string) {
    this.#state = join(folder, 'tpm');
    this.#data = join(folder, 'tpm.data');
    this.#control = join(folder, 'tpm.ctrl');
  }

  /** Control socket for QEMU. */
  get control(): string {
    return this.#control;
  }

  /** Switches it on, has the firmware measure, and leaves it to QEMU. @param measure gets the TPM's location */
  async powerOn<T>(measure: (location: string) => Promise<T>): Promise<T> {
    await this.powerOff();
    if (!existsSync(this.#state)) {
      mkdirSync(this.#state, { recursive: true });
      await run('swtpm_setup', ['--tpm2', '--tpmstate', this.#state, '--pcr-banks', 'sha256,sha384']);
    }
    rmSync(join(this.#state, VOLATILE), { force: true });
    const server = ['--server', `type=unixio,path=${this.#data}`];
    await this.#start([...server, '--flags', 'not-need-init,startup-clear'], this.#data);
    const measured = await measure(`unix:${this.#data}`);
    await run('swtpm_ioctl', ['--unix', this.#control, '-v']);
    await this.powerOff();
    await this.#start([], this.#control);
    return measured;
  }

  async powerOff(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
  }

  async #start(more: readonly string[], socket: string): Promise<void> {
    for (const path of [this.#data, this.#control]) rmSync(path, { force: true });
    const control = ['--ctrl', `type=unixio,path=${this.#control}`];
    const args = ['socket', '--tpm2', '--tpmstate', `dir=${this.#state}`, ...control, ...more];
    const child = spawn('swtpm', args, { stdio: 'ignore' });
    endWithTest(child);
    this.#process = child;
    const deadline = Date.now() + START_MS;
    // QEMU's is the one connection to the control socket: it is not tried.
    while (!existsSync(socket) || (socket === this.#data && !(await answers(socket)))) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error('swtpm did not start');
      await sleep(10);
    }
  }
}

async function run(program: string, args: readonly string[]): Promise<void> {
  await promisify(execFile)(program, [...args], { timeout: TOOL_MS });
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
