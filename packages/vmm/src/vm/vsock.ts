import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { VmmError } from '../errors.ts';
import { findProgram } from './find-program.ts';
import type { VsockDevice } from './qemu-arguments.ts';

const KERNEL_DEVICE = '/dev/vhost-vsock';
const DIAL_TIMEOUT_MS = 10_000;
const MAX_REPLY = 64;
/** Where the guest listens for its host. */
export const GUEST_API_PORT = 8000;

/**
 * What carries the guest's vsock. Whichever it is, the host's side is the same Unix sockets in the run folder of the machine:
 * `vm.vsock_P` gets what the guest connects to port P of CID 2.
 */
export interface VsockTransport {
  readonly kind: VsockDevice['kind'];
  /** Programs that carry it, started before QEMU. */
  programs(run: VsockRun): readonly { readonly name: string; readonly command: readonly string[] }[];
  device(run: VsockRun): VsockDevice;
}

interface VsockRun {
  readonly dir: string;
  readonly cid: number;
  /** Ports of the host that the guest connects to. */
  readonly hostPorts: readonly number[];
}

/** Socket at which the host serves the guest's connections to port `port` of CID 2. */
export function hostSocket(runDir: string, port: number): string {
  return join(runDir, `vm.vsock_${port}`);
}

/** Socket by which {@link dialGuest} reaches the guest through a program. */
const guestSocket = (runDir: string): string => join(runDir, 'vm.vsock');
/** Socket by which it reaches one port through the kernel's vsock. */
const kernelSocket = (runDir: string, port: number): string => join(runDir, `guest_${port}.sock`);
export const vhostSocket = (runDir: string): string => join(runDir, 'vhost.sock');

/**
 * The transport of this host. The program comes first: with it each machine has sockets of its own, while ports of the
 * kernel's vsock are shared by all machines of the host. A TD has the kernel's alone, since its memory is not shared.
 *
 * @throws VmmError `program_missing`
 */
export function vsockTransport(isTd: boolean): VsockTransport {
  const program = findProgram('vhost-device-vsock');
  if (program !== undefined && !isTd) return throughProgram(program);
  const socat = findProgram('socat');
  const hasKernel = existsSync(KERNEL_DEVICE);
  if (hasKernel && socat !== undefined) return throughKernel(socat);
  throw new VmmError(
    'program_missing',
    isTd
      ? `A TD needs ${hasKernel ? 'socat for the kernel’s vsock' : `${KERNEL_DEVICE}: load the module vhost_vsock`}`
      : 'Nothing carries the guest’s vsock: install vhost-device-vsock (cargo install vhost-device-vsock, or the package of Debian), or load the module vhost_vsock and install socat',
    {
      expected: isTd
        ? `${KERNEL_DEVICE} and socat`
        : 'vhost-device-vsock on PATH or in ~/.cache/dstack-cloud/bin',
      found: hasKernel ? `${KERNEL_DEVICE}, no socat` : `no ${KERNEL_DEVICE}`,
    },
  );
}

function throughProgram(program: string): VsockTransport {
  return {
    kind: 'vhost-user',
    programs: ({ dir, cid }) => [
      {
        name: 'vsock',
        command: [
          program,
          '--vm',
          `guest-cid=${cid},uds-path=${guestSocket(dir)},socket=${vhostSocket(dir)}`,
        ],
      },
    ],
    device: ({ dir }) => ({ kind: 'vhost-user', socket: vhostSocket(dir) }),
  };
}

function throughKernel(socat: string): VsockTransport {
  return {
    kind: 'vhost',
    programs: ({ dir, cid, hostPorts }) => [
      ...hostPorts.map((port) => ({
        name: `vsock-${port}`,
        command: [
          socat,
          `VSOCK-LISTEN:${port},fork,max-children=32`,
          `UNIX-CONNECT:${hostSocket(dir, port)}`,
        ],
      })),
      {
        name: 'vsock-guest',
        command: [
          socat,
          `UNIX-LISTEN:${kernelSocket(dir, GUEST_API_PORT)},fork,mode=0600,max-children=32`,
          `VSOCK-CONNECT:${cid}:${GUEST_API_PORT}`,
        ],
      },
    ],
    device: ({ cid }) => ({ kind: 'vhost', cid }),
  };
}

/**
 * Connects to a port of the guest in the machine whose run folder this is.
 *
 * @throws VmmError `not_running` when nothing carries the connection or nobody listens in the guest
 */
export async function dialGuest(runDir: string, port: number): Promise<Socket> {
  const direct = kernelSocket(runDir, port);
  if (existsSync(direct)) return await connected(direct);
  const socket = await connected(guestSocket(runDir));
  try {
    socket.write(`CONNECT ${port}\n`);
    const reply = await firstLine(socket);
    if (!/^OK \d+$/.test(reply)) throw new Error(`reply ${JSON.stringify(reply)}`);
    return socket;
  } catch (cause) {
    socket.destroy();
    throw notListening(port, cause);
  }
}

async function connected(path: string): Promise<Socket> {
  return await new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once('error', (cause) =>
      reject(new VmmError('not_running', `The guest is not reachable: ${cause.message}`, { cause })),
    );
    socket.once('connect', () => resolve(socket));
  });
}

/** Reads to the first line end and not further: what follows is the guest's. */
async function firstLine(socket: Socket): Promise<string> {
  return await new Promise((resolve, reject) => {
    let line = '';
    const timer = setTimeout(() => done(new Error('no answer')), DIAL_TIMEOUT_MS);
    const done = (error?: Error): void => {
      clearTimeout(timer);
      socket.off('readable', read);
      socket.off('close', closed);
      socket.off('error', closed);
      if (error === undefined) resolve(line);
      else reject(error);
    };
    const closed = (): void => done(new Error('nobody listens there'));
    const read = (): void => {
      for (;;) {
        const byte = socket.read(1) as Buffer | null;
        if (byte === null) return;
        if (byte[0] === 0x0a) {
          done();
          return;
        }
        line += byte.toString('latin1');
        if (line.length > MAX_REPLY) {
          done(new Error('an answer without end'));
          return;
        }
      }
    };
    socket.on('readable', read);
    socket.once('close', closed);
    socket.once('error', closed);
    read();
  });
}

function notListening(port: number, cause: unknown): VmmError {
  return new VmmError('not_running', `The guest does not answer on its vsock port ${port}`, { cause });
}
