// Loaded before the program under test: moves its clock, at SIGUSR2, by the seconds in the file that TEST_CLOCK_FILE
// names. Timers and the monotonic clock run on, as they do when an administrator sets the time.
import { readFileSync } from 'node:fs';

const RealDate = Date;
const file = process.env.TEST_CLOCK_FILE;
let offset = 0;
const set = () => {
  offset = Number(readFileSync(file, 'utf8')) * 1000;
};
set();
process.on('SIGUSR2', set);

globalThis.Date = class extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(RealDate.now() + offset);
    else super(...args);
  }

  static now() {
    return RealDate.now() + offset;
  }
};
