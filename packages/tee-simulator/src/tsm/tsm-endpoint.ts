import type { Socket } from 'node:net';
import { StringDecoder } from 'node:string_decoder';
import type { SimulatedPlatform } from '../platform.ts';
import { listenOnSocket } from './socket-server.ts';
import { TsmDevice, type TsmDeviceOptions } from './tsm-device.ts';
import { MAX_LINE, parseRequest, replyLine } from './wire.ts';

export interface TsmEndpointOptions extends TsmDeviceOptions {
  readonly socketPath: string;
}

export interface TsmEndpoint {
  readonly socketPath: string;
  readonly device: TsmDevice;
  close(): Promise<void>;
}

/**
 * Serves one boot of a simulated TD on a unix socket: the files of configfs-tsm, the RTMR files of sysfs, and CCEL,
 * one JSON request a line. Each connection is a report entry of its own.
 * @throws SimulatorError `listen`, `argument`
 */
export async function tsmEndpoint(
  platform: SimulatedPlatform,
  options: TsmEndpointOptions,
): Promise<TsmEndpoint> {
  const device = new TsmDevice(platform, options);
  const server = await listenOnSocket(options.socketPath, (socket) => serve(socket, device));
  return { socketPath: options.socketPath, device, close: server.close };
}

/** Answers the lines of one connection in order; a line that is no request, or too long, ends it. */
function serve(socket: Socket, device: TsmDevice): void {
  const entry = device.entry();
  const decoder = new StringDecoder('utf8');
  let pending = '';
  let work: Promise<void> = Promise.resolve();
  const answer = async (line: string): Promise<void> => {
    const request = parseRequest(line);
    if (!request) {
      socket.destroy();
      return;
    }
    const reply = await entry.handle(request);
    if (!socket.destroyed) socket.write(replyLine(reply));
  };
  socket.on('data', (chunk) => {
    pending += decoder.write(chunk as Buffer);
    const lines = pending.split('\n');
    pending = lines.pop() ?? '';
    if (pending.length > MAX_LINE || lines.some((line) => line.length > MAX_LINE)) {
      socket.destroy();
      return;
    }
    // Read no further before these are answered: what a client may queue stays bounded.
    socket.pause();
    for (const line of lines) work = work.then(() => answer(line));
    work = work.then(() => void socket.resume()).catch(() => void socket.destroy());
  });
}
