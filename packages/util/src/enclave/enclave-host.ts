import { execFile, type SpawnOptions, spawn } from 'node:child_process';
import { connect, createServer, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import type { VsockServer } from '@dstack-cloud/vsock';
import { UtilError } from '../errors.ts';

const run = promisify(execFile);

/** A program that was started. */
interface StartedProgram {
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  kill(signal: NodeJS.Signals): void;
}

/** What the init does to the system that it runs on; a test puts its own in this place. */
export interface EnclaveHost {
  /** @throws UtilError */
  raiseLoopback(): Promise<void>;
  /** @param onFull told of each connection that is refused, with the number that may be open */
  listenTcp(
    address: string,
    port: number,
    onStream: (stream: Socket) => void,
    onFull?: (limit: number) => void,
  ): Promise<VsockServer>;
  /** @throws what the connection fails with */
  connectTcp(address: string, port: number): Promise<Socket>;
  /** @throws UtilError when it cannot be started */
  start(command: readonly string[], env: NodeJS.ProcessEnv): Promise<StartedProgram>;
  onSignal(signal: NodeJS.Signals, handler: () => void): void;
}

const TOOLS: readonly (readonly [string, readonly string[]])[] = [
  ['ip', ['link', 'set', 'lo', 'up']],
  ['ifconfig', ['lo', '127.0.0.1', 'up']],
  ['busybox', ['ip', 'link', 'set', 'lo', 'up']],
];

/** Connections of the relay that are open at once. */
const MAX_CONNECTIONS = 256;

/** The enclave that this program runs in. */
export const thisEnclave: EnclaveHost = {
  async raiseLoopback() {
    if (hasLoopback()) return;
    const failures: string[] = [];
    for (const [tool, args] of TOOLS) {
      try {
        await run(tool, [...args], { timeout: 10_000 });
        if (hasLoopback()) return;
        failures.push(`${tool}: lo has no address afterwards`);
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        failures.push(
          code === 'ENOENT' ? `${tool} is not in the image` : `${tool}: ${message.split('\n')[0]}`,
        );
      }
    }
    throw new UtilError(
      `The loopback interface cannot be brought up: ${failures.join('; ')}. Add iproute2 or busybox to the image`,
    );
  },
  async listenTcp(address, port, onStream, onFull) {
    const streams = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true }, (stream) => {
      streams.add(stream);
      stream.once('close', () => streams.delete(stream));
      onStream(stream);
    });
    server.maxConnections = MAX_CONNECTIONS;
    server.on('drop', () => onFull?.(MAX_CONNECTIONS));
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) =>
        reject(new UtilError(`The relay cannot listen at ${address}:${port}`, cause)),
      );
      server.listen(port, address, resolve);
    });
    return {
      close: async () => {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        // What a program left open, or its children still use, must not keep the enclave from ending.
        for (const stream of streams) stream.destroy();
        await closed;
      },
    };
  },
  connectTcp: async (address, port) =>
    await new Promise<Socket>((resolve, reject) => {
      const stream = connect({ host: address, port, allowHalfOpen: true });
      stream.once('error', reject);
      stream.once('connect', () => {
        stream.off('error', reject);
        resolve(stream);
      });
    }),
  async start(command, env) {
    const [program = '', ...args] = command;
    const options: SpawnOptions = { env, stdio: 'inherit' };
    const child = spawn(program, args, options);
    const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    await new Promise<void>((resolve, reject) => {
      // Kept: a signal that cannot be delivered is an error event too.
      child.on('error', (cause) => reject(new UtilError(`${program} cannot be started`, cause)));
      child.once('spawn', resolve);
    });
    return { ended, kill: (signal) => void child.kill(signal) };
  },
  onSignal: (signal, handler) => void process.on(signal, handler),
};

function hasLoopback(): boolean {
  return Object.values(networkInterfaces()).some((list) =>
    list?.some(({ address }) => address === '127.0.0.1'),
  );
}
