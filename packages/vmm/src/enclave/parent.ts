import type { Socket } from 'node:net';
import { openVsock, type VsockServer } from '@dstack-cloud/vsock';

/** Where nitro-cli waits for the first sign of life. */
const HEARTBEAT_PORT = 9000;
/** Where `dstack-enclave-init` says how it goes, one line of JSON a connection. */
const REPORT_PORT = 9001;
const MAX_REPORT = 8 * 1024;
const REPORT_MS = 5_000;
/** An enclave reports a few times in its life. */
const MAX_OPEN = 16;

/** What an enclave says of itself: it is not believed in anything but how it ended. */
export interface EnclaveReport {
  readonly stage: string;
  readonly exitCode: number | undefined;
  readonly error: string | undefined;
}

/**
 * The parent instance as an enclave sees it: answers the heartbeat, and takes reports.
 *
 * @param path of the hybrid vsock
 */
export async function serveParent(
  path: string,
  onReport: (report: EnclaveReport) => void,
): Promise<{ close(): Promise<void> }> {
  const vsock = openVsock(`host:${path}`);
  const open = new Set<Socket>();
  const admitted = (serve: (stream: Socket) => void) => (stream: Socket) => {
    if (open.size >= MAX_OPEN) return void stream.destroy();
    open.add(stream);
    stream.once('close', () => open.delete(stream));
    stream.setTimeout(REPORT_MS, () => stream.destroy());
    serve(stream);
  };
  const servers: VsockServer[] = [
    await vsock.listen(
      HEARTBEAT_PORT,
      admitted((stream) => void stream.once('data', (first: Buffer) => stream.end(first.subarray(0, 1)))),
    ),
    await vsock.listen(
      REPORT_PORT,
      admitted((stream) => readReport(stream, onReport)),
    ),
  ];
  return {
    close: async () => {
      for (const stream of open) stream.destroy();
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}

function readReport(stream: Socket, onReport: (report: EnclaveReport) => void): void {
  let text = '';
  stream.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (text.length > MAX_REPORT) stream.destroy();
  });
  stream.once('end', () => {
    const report = parseReport(Buffer.from(text, 'latin1').toString('utf8'));
    if (report !== undefined) onReport(report);
    stream.end();
  });
}

/** Undefined for what is none. */
function parseReport(text: string): EnclaveReport | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { stage, exit_code: code, error } = value as Record<string, unknown>;
  if (typeof stage !== 'string' || !/^[a-z-]{1,32}$/.test(stage)) return undefined;
  return {
    stage,
    exitCode: typeof code === 'number' && Number.isInteger(code) ? code : undefined,
    error: typeof error === 'string' ? error : undefined,
  };
}
