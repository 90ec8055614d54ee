import cluster, { type Worker } from 'node:cluster';
import { workerPort } from './process-port.ts';
import type { WorkerProcess } from './worker-pool.ts';

/**
 * A worker has a core to itself. Threads that collect its garbage would run on it too, and hold up requests for longer
 * than they save. What runs for the first time after a collection for being idle stays slower. And of the memory of short
 * requests little is in use at once.
 */
const NODE_FLAGS = [
  '--single-threaded-gc',
  '--v8-pool-size=1',
  '--no-memory-reducer',
  '--max-semi-space-size=8',
];

/**
 * Starts this program again as a worker. The primary accepts connections and hands them to the workers in turn, one at
 * a time to each: a worker that computes gets none meanwhile, and many connections at once do not all go to one.
 */
export function forkWorker(): WorkerProcess {
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({ execArgv: [...process.execArgv, ...NODE_FLAGS] });
  const worker = cluster.fork();
  closeWhatIsLost(worker);
  return {
    pid: worker.process.pid,
    port: workerPort(worker),
    onExit: (listener) => {
      worker.process.once('exit', (code, signal) => listener(signal ?? `exit code ${code}`));
    },
    kill: () => void worker.process.kill('SIGKILL'),
  };
}

/**
 * node:cluster keeps a connection open until the worker says that it has it. When the worker ends before that, its
 * client would wait for an answer until it gives up; closed, it knows at once and asks again.
 */
function closeWhatIsLost({ process }: Worker): void {
  let last: { close?: () => void } | undefined;
  const send = process.send.bind(process) as (...message: unknown[]) => boolean;
  process.send = (...message: unknown[]) => {
    const [, handle] = message as [unknown, typeof last];
    if (handle !== undefined && handle !== null) last = handle;
    return send(...message);
  };
  // One that was handed over is closed here already; closing it again does nothing.
  process.once('exit', () => last?.close?.());
}
