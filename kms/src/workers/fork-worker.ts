import cluster from 'node:cluster';
import { connectionGiver, workerPort } from './process-port.ts';
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

/** Starts this program again as a worker. It has no listener: the primary gives it connections. */
export function forkWorker(): WorkerProcess {
  cluster.setupPrimary({ execArgv: [...process.execArgv, ...NODE_FLAGS] });
  const worker = cluster.fork();
  return {
    pid: worker.process.pid,
    port: workerPort(worker),
    onExit: (listener) => {
      worker.process.once('exit', (code, signal) => listener(signal ?? `exit code ${code}`));
    },
    give: connectionGiver(worker),
    kill: () => void worker.process.kill('SIGKILL'),
  };
}
