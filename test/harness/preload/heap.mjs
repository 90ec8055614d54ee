// Loaded before the program under test: at SIGUSR2 collects all garbage and writes to the file that TEST_HEAP_FILE names
// process.memoryUsage() and what held up the event loop since the last time, in milliseconds.
import { renameSync, writeFileSync } from 'node:fs';
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const file = process.env.TEST_HEAP_FILE;
const delay = monitorEventLoopDelay();
delay.enable();
let pauses = [];
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) pauses.push(duration);
}).observe({ entryTypes: ['gc'] });

process.on('SIGUSR2', () => {
  const stalls = {
    loopP99: delay.percentile(99) / 1e6,
    loopMax: delay.max / 1e6,
    gcTotal: pauses.reduce((sum, pause) => sum + pause, 0),
    gcMax: pauses.reduce((longest, pause) => Math.max(longest, pause), 0),
  };
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  // Twice: what a finaliser of the first round lets go of is collected in the second.
  collect();
  setImmediate(() => {
    collect();
    writeFileSync(`${file}.tmp`, JSON.stringify({ ...process.memoryUsage(), stalls }));
    renameSync(`${file}.tmp`, file);
    // These two pauses are not the program's.
    setImmediate(() => {
      delay.reset();
      pauses = [];
    });
  });
});
