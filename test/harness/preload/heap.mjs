// Loaded before the program under test: at SIGUSR2 collects all garbage and writes process.memoryUsage() to the file that
// TEST_HEAP_FILE names.
import { renameSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

const file = process.env.TEST_HEAP_FILE;
process.on('SIGUSR2', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc');
  // Twice: what a finaliser of the first round lets go of is collected in the second.
  collect();
  setImmediate(() => {
    collect();
    writeFileSync(`${file}.tmp`, JSON.stringify(process.memoryUsage()));
    renameSync(`${file}.tmp`, file);
  });
});
