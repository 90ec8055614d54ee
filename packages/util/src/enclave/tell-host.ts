import { once } from 'node:events';
import { PARENT_CID, type Vsock } from '@dstack-cloud/vsock';
import { UtilError } from '../errors.ts';

/** Where nitro-cli waits for the first sign of life, and what it waits for. */
const HEARTBEAT_PORT = 9000;
const HEARTBEAT = 0xb7;
const TIMEOUT_MS = 10_000;
/** Nobody has to listen to how it ended. */
const REPORT_MS = 2000;

/** Tells nitro-cli that the enclave has booted. @throws UtilError */
export async function beat(vsock: Vsock): Promise<void> {
  try {
    const stream = await vsock.connect(PARENT_CID, HEARTBEAT_PORT);
    try {
      stream.write(Uint8Array.of(HEARTBEAT));
      const [answer] = (await once(stream, 'data', { signal: AbortSignal.timeout(TIMEOUT_MS) })) as [Buffer];
      if (answer.length !== 1 || answer[0] !== HEARTBEAT) throw new UtilError('the answer is another byte');
    } finally {
      stream.destroy();
    }
  } catch (cause) {
    throw new UtilError(`The parent does not answer the heartbeat on vsock port ${HEARTBEAT_PORT}`, cause);
  }
}

/** Tells the parent in one line of JSON how the enclave ended; never fails. */
export async function report(vsock: Vsock, port: number, outcome: object): Promise<void> {
  const told = async (): Promise<void> => {
    const stream = await vsock.connect(PARENT_CID, port);
    stream.on('error', () => stream.destroy());
    stream.end(`${JSON.stringify(outcome)}\n`);
    await once(stream, 'finish');
    stream.destroySoon();
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, REPORT_MS);
  });
  await Promise.race([told().catch(() => undefined), late]);
  clearTimeout(timer);
}
