import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { joinStreams, type Vsock } from '@dstack-cloud/vsock';
import { printableReport, UtilError } from '../errors.ts';
import { getKeys } from '../keys/get-keys.ts';
import { removeKeyFile } from '../keys/key-file.ts';
import type { Machine } from '../machine.ts';
import { writeSecret } from '../write-output.ts';
import type { EnclaveHost } from './enclave-host.ts';
import { type Ingress, openIngress } from './ingress.ts';
import { startAgent } from './start-agent.ts';
import { beat, report } from './tell-host.ts';

export interface EnclaveOptions {
  readonly kmsUrl: string;
  readonly appId: Uint8Array;
  /** File with the root of the KMS. */
  readonly rootCa: string;
  /** The CONNECT proxy of the host. */
  readonly proxy: { readonly cid: number; readonly port: number };
  /** Where programs of the enclave reach the same proxy over TCP. */
  readonly relay: { readonly address: string; readonly port: number };
  readonly keysFile: string;
  /** Variable that gets the keys instead of a file; undefined for the file. */
  readonly keysVariable: string | undefined;
  /** Whether the parent is told that the enclave has booted; the init of AWS's own images has done so already. */
  readonly heartbeat: boolean;
  /** Socket of the guest agent; undefined for none. */
  readonly agentSocket: string | undefined;
  /** Ways in: vsock ports of the enclave, and the port of 127.0.0.1 that each leads to. */
  readonly ingress: readonly Ingress[];
  /** Port of the parent that is told how it ended. */
  readonly reportPort: number;
  readonly command: readonly string[];
  readonly machine: Machine;
  readonly env: NodeJS.ProcessEnv;
}

/** Signals that the user's program gets. */
const FORWARDED: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'];
/** Those of them that end an enclave whose program has not started. */
const ENDING: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'];
const IDLE_MS = 300_000;
/** What a shell says of a program that a signal ended. */
const SIGNALLED = 128;

/**
 * Runs an enclave from its first moment to its last: network, keys, the user's program. No key leaves it: not to the
 * parent, not to a log.
 *
 * @returns the exit code, which the parent was told too
 */
export async function runEnclave(
  options: EnclaveOptions,
  vsock: Vsock,
  host: EnclaveHost,
  say: (line: string) => void,
): Promise<number> {
  const tell = (outcome: object): Promise<void> => report(vsock, options.reportPort, outcome);
  let stage = 'loopback';
  const signals = takeSignals(host);
  try {
    await host.raiseLoopback();
    if (options.heartbeat) {
      stage = 'heartbeat';
      await beat(vsock);
    }
    stage = 'relay';
    const relay = await startRelay(options, vsock, host, say);
    stage = 'keys';
    const { kmsUrl, appId, rootCa, proxy, machine, env } = options;
    const obtained = getKeys({
      kmsUrl,
      appId,
      rootCa,
      vsockProxy: `${proxy.cid}:${proxy.port}`,
      machine,
      env,
      say,
    });
    const keys = await Promise.race([obtained, signals.ended]);
    if (typeof keys !== 'string') {
      // A KMS that does not answer must not keep an enclave that is told to end.
      obtained.catch(() => undefined);
      const exitCode = SIGNALLED + constants.signals[keys.signal];
      say(`Ended by ${keys.signal} before the program was started`);
      await tell({ stage, exit_code: exitCode, signal: keys.signal });
      return exitCode;
    }
    if (options.keysVariable === undefined) await writeSecret(options.keysFile, keys);
    // Keys of an earlier run must not outlive their way in.
    else await removeKeyFile(options.keysFile);
    stage = 'agent';
    const agent = await startAgent(options, keys);
    stage = 'ingress';
    const doors = await openIngress(options.ingress, vsock, host, say);
    stage = 'start';
    const program = await host.start(options.command, environmentOf(options, keys));
    signals.passTo((signal) => program.kill(signal));
    say(`Started ${options.command[0]}`);
    const toldStart = tell({ stage: 'started' });
    const { code, signal } = await program.ended;
    await Promise.all([relay, ...doors, ...agent].map((one) => one.close()));
    await toldStart;
    const exitCode = code ?? SIGNALLED + (signal === null ? 0 : constants.signals[signal]);
    await tell({ stage: 'ended', exit_code: exitCode, ...(signal !== null && { signal }) });
    return exitCode;
  } catch (error) {
    const text = printableReport(error);
    say(text.trimEnd());
    await tell({ stage, exit_code: 1, error: text.slice(0, 4096) });
    return 1;
  }
}

/** Takes signals from the first moment on: they end an enclave that has no program yet, and later go to it. */
function takeSignals(host: EnclaveHost): {
  readonly ended: Promise<{ readonly signal: NodeJS.Signals }>;
  passTo(program: (signal: NodeJS.Signals) => void): void;
} {
  let end: (ending: { readonly signal: NodeJS.Signals }) => void = () => undefined;
  const ended = new Promise<{ readonly signal: NodeJS.Signals }>((resolve) => {
    end = resolve;
  });
  let take = (signal: NodeJS.Signals): void => {
    if (ENDING.includes(signal)) end({ signal });
  };
  for (const signal of FORWARDED) host.onSignal(signal, () => take(signal));
  return {
    ended,
    passTo: (program) => {
      take = program;
    },
  };
}

async function startRelay(
  { relay: { address, port }, proxy }: EnclaveOptions,
  vsock: Vsock,
  host: EnclaveHost,
  say: (line: string) => void,
): Promise<{ close(): Promise<void> }> {
  let refused = 0;
  const onFull = (limit: number): void => {
    refused += 1;
    // Said at 1, 2, 4, 8…: a program that does not close its connections must not fill the console.
    if ((refused & (refused - 1)) === 0)
      say(
        `The relay is full: ${refused} connections refused (${limit} open at most); does the program close its own?`,
      );
  };
  const onStream = (near: Socket): void => {
    near.on('error', () => near.destroy());
    vsock.connect(proxy.cid, proxy.port).then(
      (far) => void joinStreams(near, far, IDLE_MS),
      () => near.destroy(),
    );
  };
  return await host.listenTcp(address, port, onStream, onFull);
}

/** What the user's program sees: the proxy in every spelling, and where its keys are. */
function environmentOf(
  { relay, keysFile, keysVariable, env }: EnclaveOptions,
  keys: string,
): NodeJS.ProcessEnv {
  const proxy = `http://${relay.address}:${relay.port}`;
  const exempt = 'localhost,127.0.0.1';
  return {
    ...env,
    HTTPS_PROXY: proxy,
    HTTP_PROXY: proxy,
    ALL_PROXY: proxy,
    all_proxy: proxy,
    https_proxy: proxy,
    http_proxy: proxy,
    NO_PROXY: exempt,
    no_proxy: exempt,
    ...(keysVariable === undefined ? { DSTACK_KEYS_FILE: keysFile } : { [keysVariable]: keys }),
  };
}

/** `__KMS_URL__` and the like: the build script fills them in. @throws UtilError */
export function requireFilled(name: string, value: string): string {
  if (!/^__[A-Z_]+__$/.test(value)) return value;
  throw new UtilError(
    `--${name} is still the placeholder ${value}: build the image with the script that fills it in, or put the value into entrypoint.sh`,
  );
}
