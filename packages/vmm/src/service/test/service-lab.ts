import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive } from '@dstack-cloud/files';
import { resolveProgram } from '../../programs/programs.ts';
import { stopCvm } from '../../run/lifecycle.ts';
import { listCvms } from '../../state/status.ts';
import { hostSocket } from '../../vm/vsock.ts';
import { TINY_GREETING, type TinyGuest, writeTinyImage } from './tiny-image.ts';

/** An answer of the service. */
export interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  // biome-ignore lint/suspicious/noExplicitAny: what a test expects of it is in the test
  readonly json: any;
}

type Call = {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
};

/** One HTTP request over a Unix socket. */
export async function ask(socketPath: string, path: string, call: Call = {}): Promise<Answer> {
  const { method = 'POST', headers = { 'Content-Type': 'application/json' }, body = '' } = call;
  return await new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path, method, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        let json: unknown;
        try {
          json = JSON.parse(text);
        } catch {
          json = undefined;
        }
        resolve({ status: response.statusCode ?? 0, text, headers: response.headers, json });
      });
    });
    outgoing.once('error', reject);
    outgoing.end(body);
  });
}

/** app-compose.json of an application that every image takes. */
export function appCompose(change: object = {}): string {
  const compose = {
    ...{ manifest_version: 2, name: 'web', runner: 'docker-compose' },
    docker_compose_file: `services:\n  web:\n    image: nginx@sha256:${'a'.repeat(64)}\n`,
    ...{ key_provider: 'none', storage_fs: 'ext4' },
  };
  return JSON.stringify({ ...compose, ...change }, null, 4);
}

/** What a machine of the tests is made from. */
export function tinyMachine(change: object = {}): object {
  return {
    ...{ name: 'tiny', image: 'tiny-sleeps', compose_file: appCompose(), vcpu: 1, memory: 256, disk_size: 1 },
    ...{ no_tee: true, ...change },
  };
}

/** A service with tiny OS images, run as the program that operators run. */
export class ServiceLab {
  readonly root: string = mkdtempSync(join(tmpdir(), 'vmm-service-'));
  readonly runPath: string = join(this.root, 'vm');
  readonly imagePath: string = join(this.root, 'image');
  readonly socket: string = join(this.root, 'vmm.sock');
  readonly configFile: string = join(this.root, 'vmm.toml');
  /** What the service wrote. */
  log = '';
  #service: ChildProcess | undefined;

  /**
   * @param cvm lines of the table `cvm` and those below it
   * @param token listen on the loopback, for whoever has it, instead of at a socket
   */
  constructor(cvm = '', token?: string) {
    mkdirSync(this.imagePath);
    for (const guest of ['sleeps', 'obeys', 'powers-off'] satisfies TinyGuest[])
      writeTinyImage(this.imagePath, `tiny-${guest}`, guest);
    const listening =
      token === undefined
        ? 'address = "unix:./vmm.sock"'
        : `address = "127.0.0.1"\nport = 0\n[auth]\nenabled = true\ntokens = ["${token}"]`;
    const text = `image_path = "./image"\nrun_path = "./vm"\n${listening}
[discovery]\nenabled = false\n[cvm]\nacceleration = "tcg"\ncid_start = 50000\n${cvm}\n`;
    writeFileSync(this.configFile, text);
  }

  /** Where it listens, when that is no socket. */
  get url(): string {
    return `http://${/"address":"([^"]+)"/.exec(this.log)?.[1]}`;
  }

  /** Starts the service and waits until it answers. */
  async start(): Promise<void> {
    const [program, ...args] = resolveProgram('dstack-vmm') as [string, ...string[]];
    const child = spawn(program, [...args, '-c', this.configFile], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#service = child;
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        this.log += chunk.toString('utf8');
      });
    const before = this.log.length;
    await until(() => {
      if (child.exitCode !== null) throw new Error(`The service ended: ${this.log}`);
      return this.log.slice(before).includes('"msg":"listening"');
    });
  }

  get pid(): number {
    return this.#service?.pid ?? -1;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#service;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return null;
    const exit = once(child, 'exit') as Promise<[number | null]>;
    child.kill(signal);
    return (await exit)[0];
  }

  async call(method: string, body: object = {}): Promise<Answer> {
    return await ask(this.socket, `/prpc/${method}?json`, { body: JSON.stringify(body) });
  }

  /** As `call`; anything but success is an error of the test. */
  // biome-ignore lint/suspicious/noExplicitAny: what a test expects of it is in the test
  async must(method: string, body: object = {}): Promise<any> {
    const { status, text, json } = await this.call(method, body);
    if (status !== 200) throw new Error(`${method}: ${status} ${text}`);
    return json;
  }

  // biome-ignore lint/suspicious/noExplicitAny: what a test expects of it is in the test
  async info(id: string): Promise<any> {
    return (await this.must('GetInfo', { id })).info;
  }

  /** Waits until the guest has said something on its console. */
  async booted(id: string): Promise<void> {
    await until(async () => {
      const query = `/logs?id=${id}&follow=false&ansi=false&lines=100`;
      return (await ask(this.socket, query, { method: 'GET' })).text.includes(TINY_GREETING);
    });
  }

  /** Says something to the host as the guest would. */
  async notify(id: string, event: string, payload: string): Promise<Answer> {
    const status = (await listCvms(this.runPath)).find(({ dir }) => dir.endsWith(id));
    const socket = hostSocket(status?.state.run_dir ?? '', 10_000);
    return await ask(socket, '/api/Notify?json', { body: JSON.stringify({ event, payload }) });
  }

  /** Starts a machine's guest and has it say that its application is up. */
  async bringUp(id: string): Promise<void> {
    await this.booted(id);
    await this.notify(id, 'boot.progress', 'done');
    await until(async () => (await this.info(id)).boot_progress === 'done');
  }

  async cleanUp(): Promise<void> {
    await this.stop('SIGKILL');
    for (const { dir } of await listCvms(this.runPath))
      await stopCvm(dir, { force: true }).catch(() => undefined);
    rmSync(this.root, { recursive: true, force: true });
  }

  /** The supervisors of machines that live. */
  async supervisors(): Promise<number[]> {
    const all = await listCvms(this.runPath);
    return all.flatMap(({ state: { supervisor } }) =>
      supervisor && isAlive(supervisor) ? [supervisor.pid] : [],
    );
  }
}

/** Waits until something holds, for as long as a loaded machine may need. */
export async function until(condition: () => boolean | Promise<boolean>, limitMs = 60_000): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error('It did not come true');
    await sleep(50);
  }
}
