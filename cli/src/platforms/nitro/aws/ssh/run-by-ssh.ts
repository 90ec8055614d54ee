import ssh2 from 'ssh2';
import { CliError, messageOf } from '../../../../errors.ts';
import { type HostKey, hostKeyOf, signaturesOf } from './host-keys.ts';

/** A host, and how it is known that it is the one that is meant. */
export interface SshTarget {
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** One of these is shown, or nothing is said to the host. */
  readonly hostKeys: readonly HostKey[];
  /** A private key in memory, or the socket of an agent that holds it. */
  readonly login: { readonly privateKey: Uint8Array } | { readonly agent: string };
}

/** How a script ended. */
interface Ended {
  readonly code: number;
  readonly stdout: string;
  /** The last of what it wrote there. */
  readonly stderr: string;
}

const HANDSHAKE_MS = 20_000;
const KEEPALIVE_MS = 15_000;
const SILENT_KEEPALIVES = 3;
/** The output of a script is a list of enclaves, or some lines of a log. */
const MAX_STDOUT = 256 * 1024;
const MAX_STDERR = 4 * 1024 * 1024;
const STDERR_TAIL = 8 * 1024;
/** A script that was cut off does not end with it, and is not run. */
const LAST_LINE = '# End of the script';

/**
 * Runs a script as root on a host. The host sees neither the script nor a login before it has shown a key that is expected.
 *
 * @throws CliError `refused` for another host, `no_key` for a login that it does not take, `unreachable`, `timed_out`
 */
export async function runBySsh(
  target: SshTarget,
  what: string,
  script: string,
  {
    signal,
    longestMs,
    handshakeMs = HANDSHAKE_MS,
  }: { signal: AbortSignal; longestMs: number; handshakeMs?: number },
): Promise<Ended> {
  signal.throwIfAborted();
  const { address, port, user, hostKeys, login } = target;
  const where = `${address}:${port}`;
  const client = new ssh2.Client();
  let shown: string | undefined;
  let onAbort: () => void = () => undefined;
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<Ended>((resolve, reject) => {
      onAbort = () => reject(signal.reason as Error);
      signal.addEventListener('abort', onAbort, { once: true });
      timer = setTimeout(
        () =>
          reject(
            new CliError('timed_out', `${what}: not within ${Math.round(longestMs / 60_000)} minutes`, {
              hint: 'See dstack-cloud logs, then run the same command again',
            }),
          ),
        longestMs,
      );
      client.on('error', (error) => reject(explain(error, target, shown)));
      client.once('close', () => reject(cutOff(where)));
      client.once('ready', () => {
        client.exec(commandFor(user), (error, stream) => {
          if (error !== undefined) reject(explain(error, target, shown));
          else collect(stream, where, resolve, reject);
          stream?.end(`${script}\n${LAST_LINE}\n`);
        });
      });
      client.connect({
        ...{ host: address, port, username: user, readyTimeout: handshakeMs },
        ...{ keepaliveInterval: KEEPALIVE_MS, keepaliveCountMax: SILENT_KEEPALIVES },
        ...('agent' in login ? { agent: login.agent } : { privateKey: Buffer.from(login.privateKey) }),
        algorithms: { serverHostKey: signaturesOf(hostKeys) as ssh2.ServerHostKeyAlgorithm[] },
        hostVerifier: (blob: Buffer) => {
          const key = hostKeyOf(blob);
          shown = key === undefined ? 'a key of another kind' : `${key.type} ${key.fingerprint}`;
          return hostKeys.some(
            ({ type, fingerprint }) => type === key?.type && fingerprint === key.fingerprint,
          );
        },
      });
    });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    // What comes after the answer is nothing to anybody.
    client.removeAllListeners();
    client.on('error', () => undefined);
    client.destroy();
  }
}

/** The script comes on standard input, where no other user of the host reads it, and is whole before any of it runs. */
export function commandFor(user: string): string {
  const shell = `script=$(cat) || exit 1; case $script in *"${LAST_LINE}") ;; *) exit 1 ;; esac; exec </dev/null; eval "$script"`;
  return `${user === 'root' ? '' : 'sudo -n '}sh -c '${shell}'`;
}

function collect(
  stream: ssh2.ClientChannel,
  where: string,
  resolve: (ended: Ended) => void,
  reject: (error: Error) => void,
): void {
  const stdout: Buffer[] = [];
  let stderr = Buffer.alloc(0);
  let [printed, complained] = [0, 0];
  const tooMuch = (): void =>
    reject(
      new CliError('refused', `The host ${where} prints without end`, {
        expected: `at most ${MAX_STDOUT} bytes of output, and ${MAX_STDERR} of errors`,
        hint: 'Look at what runs on the host; nothing that it printed was used',
      }),
    );
  stream.on('data', (chunk: Buffer) => {
    printed += chunk.length;
    if (printed > MAX_STDOUT) return tooMuch();
    stdout.push(chunk);
  });
  stream.stderr.on('data', (chunk: Buffer) => {
    complained += chunk.length;
    if (complained > MAX_STDERR) return tooMuch();
    stderr = Buffer.concat([stderr, chunk]).subarray(-STDERR_TAIL);
  });
  // A host that takes no more input says so by its exit code.
  stream.on('error', () => undefined);
  stream.once('close', (code: number | null | undefined, name?: string) => {
    if (typeof code !== 'number' && name === undefined) return reject(cutOff(where));
    resolve({
      code: code ?? 1,
      stdout: Buffer.concat(stdout).toString('utf8'),
      stderr: `${stderr.toString('utf8')}${name === undefined ? '' : `\nended by ${name}`}`,
    });
  });
}

function cutOff(where: string): CliError {
  return new CliError('unreachable', `The connection to ${where} broke while a command was at work there`, {
    hint: 'Run the same command again: it goes on where it was',
  });
}

function explain(
  error: Error & { level?: string; code?: string },
  target: SshTarget,
  shown: string | undefined,
): CliError {
  const { address, port, user, hostKeys } = target;
  const where = `${address}:${port}`;
  const expected = hostKeys.map(({ type, fingerprint }) => `${type} ${fingerprint}`).join(' or ');
  const isExpected =
    shown !== undefined && hostKeys.some(({ type, fingerprint }) => shown === `${type} ${fingerprint}`);
  if (/no matching host key format/i.test(error.message) || (shown !== undefined && !isExpected))
    return new CliError('refused', `${where} is not the host that is meant: it shows another host key`, {
      ...{ expected, found: shown ?? 'no key of that type', cause: error },
      hint: 'Another machine may answer there. Correct nitro_config.ssh_host or ssh_host_key only after you have compared the keys on the host itself',
    });
  if (error.level === 'client-authentication' || error.level === 'agent')
    return new CliError('no_key', `${where} does not let ${user} in: ${error.message}`, {
      hint: 'nitro_config.key_path must be the private half of the key pair nitro_config.key_name, and ssh_user a user of the image',
      cause: error,
    });
  if (error.level === 'client-timeout')
    return new CliError('unreachable', `${where} does not answer by SSH: ${error.message}`, {
      hint: 'Another service may listen there, or the host may be overloaded',
      cause: error,
    });
  return new CliError('unreachable', `${where} cannot be reached by SSH: ${messageOf(error)}`, {
    hint: 'nitro_config.ssh_sources must have the address that you come from',
    ...(error.code === undefined ? {} : { found: error.code }),
    cause: error,
  });
}
