import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { connectUnix, dialHybrid, hybridPortPath } from '@dstack-cloud/vsock';
import { VmmError } from '../errors.ts';
import { findProgram } from './find-program.ts';
import type { VsockDevice } from './qemu-arguments.ts';

const KERNEL_DEVICE = '/dev/vhost-vsock';
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
  return hybridPortPath(guestSocket(runDir), port);
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
  try {
    return await (existsSync(direct) ? connectUnix(direct) : dialHybrid(guestSocket(runDir), port));
  } catch (cause) {
    throw new VmmError('not_running', `The guest does not answer on its vsock port ${port}`, { cause });
  }
}
