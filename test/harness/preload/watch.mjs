// Loaded before the program under test: ten times a second, writes to the file that TEST_WATCH_FILE names, with the process
// id behind it, what held up the event loop since the last time and how large the heap is.
import { appendFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';

const EVERY_MS = 100;
const RESOLUTION_MS = 5;
const file = `${process.env.TEST_WATCH_FILE}.${process.pid}`;
const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delay.enable();
setInterval(() => {
  // A sample is due every few milliseconds; what is longer is a delay.
  const loopMs = Math.max(0, delay.max / 1e6 - RESOLUTION_MS);
  const { heapUsed, rss } = process.memoryUsage();
  appendFileSync(file, `${JSON.stringify({ at: Date.now(), loopMs, heapUsed, rss })}\n`);
  delay.reset();
}, EVERY_MS).unref();
