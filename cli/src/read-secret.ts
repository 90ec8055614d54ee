import type { ReadStream } from 'node:tty';
import { CliError, EXIT } from './errors.ts';

const ENTER = new Set([0x0a, 0x0d]);
const CTRL_C = 0x03;
const CTRL_D = 0x04;
const BACKSPACE = new Set([0x08, 0x7f]);

/**
 * Reads one line from a terminal without showing it.
 * @throws CliError `interrupted` for Ctrl-C, `bad_env` beyond `max` bytes
 */
export function readSecret(terminal: ReadStream, max: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const typed: number[] = [];
    const finish = (end: () => void): void => {
      terminal.off('data', take);
      terminal.setRawMode(false);
      terminal.pause();
      end();
    };
    const take = (chunk: Buffer): void => {
      for (const byte of chunk) {
        if (ENTER.has(byte) || byte === CTRL_D) {
          finish(() => resolve(Buffer.from(typed)));
          return;
        }
        if (byte === CTRL_C) {
          finish(() => reject(new CliError('interrupted', 'Interrupted', { exitCode: EXIT.interrupted })));
          return;
        }
        if (BACKSPACE.has(byte)) removeCharacter(typed);
        else typed.push(byte);
      }
      if (typed.length > max)
        finish(() => reject(new CliError('bad_env', `The value is larger than ${max} bytes`)));
    };
    terminal.setRawMode(true);
    terminal.on('data', take);
    terminal.resume();
  });
}

/** The last character of UTF-8: its last byte, and those before it up to the first one. */
function removeCharacter(typed: number[]): void {
  while (typed.length > 0 && ((typed.pop() as number) & 0xc0) === 0x80);
}
