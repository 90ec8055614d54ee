import { lstatSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { SimulatorError } from '@dstack-cloud/tee-simulator';

/** sun_path holds this many bytes and its end: 108 on Linux, 104 on macOS. */
const MAX_SOCKET_PATH = process.platform === 'darwin' ? 103 : 107;
const PROBE_MS = 1_000;

/** The sockets of a simulator, by the names that the original's has. */
export interface Sockets {
  readonly dstack: string;
  readonly tappd: string;
  readonly external: string;
  readonly guest: string;
}

/** The sockets of a folder. */
export function socketsIn(directory: string): Sockets {
  const at = (name: string) => join(directory, `${name}.sock`);
  return { dstack: at('dstack'), tappd: at('tappd'), external: at('external'), guest: at('guest') };
}

/**
 * Makes the folder when it is missing, and checks that each socket can be made in it: nothing but a dead socket of ours
 * lies under its name.
 *
 * @throws SimulatorError `argument`, `listen`
 */
export async function checkSocketFolder(directory: string, sockets: Sockets): Promise<void> {
  makeFolder(directory);
  for (const path of Object.values(sockets) as string[]) await checkSocketPath(path);
}

function makeFolder(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === 'EEXIST' || code === 'ENOTDIR' ? 'a file is in its way' : message;
    throw new SimulatorError('argument', `${directory} cannot be the folder of the sockets: ${why}`, {
      cause,
    });
  }
}

async function checkSocketPath(path: string): Promise<void> {
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH)
    throw new SimulatorError(
      'argument',
      `${path} has ${length} bytes and a socket's path at most ${MAX_SOCKET_PATH}; use a folder with a shorter name`,
    );
  const status = lstatSync(path, { throwIfNoEntry: false });
  if (status === undefined) return;
  if (!status.isSocket()) {
    const what = status.isDirectory() ? 'a folder' : status.isSymbolicLink() ? 'a symbolic link' : 'a file';
    throw new SimulatorError('listen', `${path} is ${what}, not a socket; move it or use another folder`);
  }
  if (process.geteuid !== undefined && status.uid !== process.geteuid())
    throw new SimulatorError('listen', `${path} belongs to user ${status.uid}; use a folder of your own`);
  if (await isServed(path))
    throw new SimulatorError(
      'listen',
      `Another program already serves ${path}; stop it or use another folder`,
    );
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const answer = (served: boolean) => {
      socket.destroy();
      resolve(served);
    };
    socket.setTimeout(PROBE_MS, () => answer(true));
    socket.once('connect', () => answer(true));
    socket.once('error', () => answer(false));
  });
}
