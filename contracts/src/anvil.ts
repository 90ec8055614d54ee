import { type ChildProcess, spawn } from 'node:child_process';
import { bytesToHex, type Hex } from 'viem';
import { mnemonicToAccount } from 'viem/accounts';
import { ContractsError } from './errors.ts';
import { foundryProgram } from './foundry-program.ts';

/** The phrase that anvil itself documents for its development accounts. Worthless by design. */
const MNEMONIC = 'test test test test test test test test test test test junk';
const STOP_GRACE_MS = 3_000;

/** How to start a local chain. */
export type AnvilOptions = {
  /** Port on loopback; default: a free one. */
  port?: number;
  /** Default 31337. */
  chainId?: number;
  /** Also make an empty block every so many seconds, as a live chain does; default: blocks only on demand. */
  blockTimeSeconds?: number;
  /** Unix seconds of the first block; default: now. */
  timestamp?: number;
  /** Rules of the chain, for example `cancun`; default: the newest. */
  hardfork?: string;
  /** How long it may take to listen, while its process lives; default 60 s: a busy machine takes its time. */
  timeoutMs?: number;
  /** Directory the process runs in; default: ours. */
  cwd?: string;
};

/** A development account with funds. */
export type AnvilAccount = { address: Hex; privateKey: Hex };

/** A running local chain. */
export type Anvil = {
  readonly rpcUrl: string;
  readonly port: number;
  readonly chainId: number;
  readonly pid: number;
  /** Ten funded accounts. */
  readonly accounts: readonly AnvilAccount[];
  /** End the process and wait until it is gone; may be called twice. */
  stop(): Promise<void>;
};

/** Start a local chain and wait until it listens. It ends with this process at the latest. */
export async function startAnvil(options: AnvilOptions = {}): Promise<Anvil> {
  const {
    port = 0,
    chainId = 31_337,
    blockTimeSeconds,
    timestamp,
    hardfork,
    timeoutMs = 60_000,
    cwd,
  } = options;
  const args = ['--host', '127.0.0.1', '--port', String(port), '--chain-id', String(chainId)];
  args.push('--mnemonic', MNEMONIC);
  if (timestamp !== undefined) args.push('--timestamp', String(timestamp));
  if (hardfork !== undefined) args.push('--hardfork', hardfork);
  // Mixed mining: a transaction gets its block at once, and time moves on without transactions too.
  if (blockTimeSeconds !== undefined) args.push('--block-time', String(blockTimeSeconds), '--mixed-mining');

  const child = spawnBound(foundryProgram('anvil'), args, cwd);
  const killNow = (): void => void child.kill('SIGKILL');
  process.once('exit', killNow);
  const gone = new Promise<void>((done) => {
    child.once('error', () => done());
    child.once('exit', () => done());
  });
  void gone.then(() => {
    process.off('exit', killNow);
    // Nothing is left to watch over.
    child.stdio[3]?.destroy();
  });

  try {
    const actual = await listeningPort(child, timeoutMs);
    return {
      rpcUrl: `http://127.0.0.1:${actual}`,
      port: actual,
      chainId,
      pid: child.pid ?? 0,
      accounts: developmentAccounts(),
      stop: () => stop(child, gone),
    };
  } catch (error) {
    await stop(child, gone);
    throw error;
  }
}

/**
 * Start a program that ends when we do, also when we are killed: a watcher beside it waits for our end of a pipe to
 * close. The program takes over the shell's process, so that its pid is the child's.
 */
function spawnBound(program: string, args: readonly string[], cwd: string | undefined): ChildProcess {
  const where = cwd === undefined ? {} : { cwd };
  if (process.platform === 'win32') {
    return spawn(program, args, { ...where, stdio: ['ignore', 'pipe', 'pipe'] });
  }
  const script = '(cat <&3; kill -TERM $$) >/dev/null 2>&1 & exec "$@" 3<&-';
  return spawn('/bin/sh', ['-c', script, 'sh', program, ...args], {
    ...where,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
}

/** Wait for anvil's "Listening on" line; afterwards its output is drained and dropped. */
function listeningPort(child: ChildProcess, timeoutMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    let output = '';
    const fail = (why: string, cause?: Error): void => {
      clearTimeout(timer);
      reject(new ContractsError('anvil-not-ready', `anvil ${why}: ${output.slice(-500).trim()}`, { cause }));
    };
    const timer = setTimeout(() => fail(`did not listen within ${timeoutMs} ms`), timeoutMs);
    const read = (chunk: Buffer): void => {
      output = (output + chunk.toString()).slice(-8192);
      const match = /Listening on \S+:(\d+)/.exec(output);
      if (!match) return;
      clearTimeout(timer);
      child.stdout?.off('data', read).resume();
      child.stderr?.off('data', read).resume();
      resolve(Number(match[1]));
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', (error) => fail('could not be started', error));
    child.once('exit', (code) => fail(`ended with code ${code}`));
  });
}

async function stop(child: ChildProcess, gone: Promise<void>): Promise<void> {
  // A process that never started has no pid and no "close" event to wait for.
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
  await gone;
  clearTimeout(timer);
}

function developmentAccounts(): AnvilAccount[] {
  return Array.from({ length: 10 }, (_, addressIndex) => {
    const account = mnemonicToAccount(MNEMONIC, { addressIndex });
    const { privateKey } = account.getHdKey();
    if (!privateKey) throw new ContractsError('bad-argument', 'A development account has no private key');
    return { address: account.address, privateKey: bytesToHex(privateKey) };
  });
}
