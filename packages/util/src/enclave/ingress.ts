import type { Socket } from 'node:net';
import { joinStreams, type Vsock, type VsockServer } from '@dstack-cloud/vsock';
import { UtilError } from '../errors.ts';
import type { EnclaveHost } from './enclave-host.ts';

/** A way into the enclave. */
export interface Ingress {
  /** vsock port that the host connects to. */
  readonly port: number;
  /** Port of 127.0.0.1 that the program listens to. */
  readonly to: number;
}

const APPLICATION = '127.0.0.1';
/** Connections that are open at once, over all ways in: the host is not trusted to bound them. */
const MAX_CONNECTIONS = 1024;
const IDLE_MS = 300_000;
const MAX_WAYS = 64;

/** `443:8443,8080`: vsock port and TCP port, or one number for both. @throws UtilError */
export function parseIngress(text: string | undefined): Ingress[] {
  if (text === undefined) return [];
  const all = text.split(',').map((one) => {
    const [, port = '', to = port] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(one.trim()) ?? [];
    const way = { port: Number(port), to: Number(to) };
    if (isPort(way.port) && isPort(way.to)) return way;
    throw new UtilError(`--ingress ${JSON.stringify(one)} is not VSOCK_PORT[:TCP_PORT], such as 443:8443`);
  });
  const twice = all.find((one, at) => all.findIndex(({ port }) => port === one.port) !== at);
  if (twice !== undefined) throw new UtilError(`--ingress names vsock port ${twice.port} twice`);
  if (all.length > MAX_WAYS) throw new UtilError(`--ingress names ${all.length} ports: ${MAX_WAYS} at most`);
  return all;
}

/** Takes connections of the host for a program that listens on TCP. @throws VsockError */
export async function openIngress(
  ways: readonly Ingress[],
  vsock: Vsock,
  host: Pick<EnclaveHost, 'connectTcp'>,
  say: (line: string) => void,
): Promise<VsockServer[]> {
  const open = new Set<Socket>();
  let refused = 0;
  const take = (far: Socket, to: number): void => {
    far.on('error', () => far.destroy());
    if (open.size >= MAX_CONNECTIONS) {
      far.destroy();
      refused += 1;
      // Said at 1, 2, 4, 8…: a flood must not fill the console.
      if ((refused & (refused - 1)) === 0)
        say(`${refused} connections into the enclave refused (${MAX_CONNECTIONS} open at most)`);
      return;
    }
    open.add(far);
    far.once('close', () => open.delete(far));
    host.connectTcp(APPLICATION, to).then(
      (near) => void joinStreams(near, far, IDLE_MS),
      // The program does not listen yet, or not any more.
      () => far.destroy(),
    );
  };
  const servers: VsockServer[] = [];
  try {
    for (const { port, to } of ways) servers.push(await vsock.listen(port, (far) => take(far, to)));
  } catch (error) {
    await Promise.all(servers.map((one) => one.close()));
    throw error;
  }
  return servers.map((server) => ({
    close: async () => {
      await server.close();
      // What is still open must not keep the enclave from ending.
      for (const stream of open) stream.destroy();
    },
  }));
}

function isPort(number: number): boolean {
  return Number.isInteger(number) && number >= 1 && number <= 65_535;
}
