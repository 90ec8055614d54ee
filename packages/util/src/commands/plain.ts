import { randomBytes } from 'node:crypto';
import { toHex } from '@dstack-cloud/encoding';
import { type Command, requiredText, textOf } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { readNamedFile, readStandardInput } from '../files.ts';
import { writeOutput, writeSecret } from '../write-output.ts';

const MAX_INPUT = 64 * 1024 * 1024;
const MAX_RANDOM = 16 * 1024 * 1024;

export const hex: Command = {
  name: 'hex',
  about: 'Hex encode data',
  options: [{ name: 'filename', isPositional: true, help: 'filename to hex encode' }],
  async run(values) {
    const path = textOf(values, 'filename');
    const bytes =
      path === undefined
        ? await readStandardInput(MAX_INPUT)
        : await readNamedFile(path, `Failed to open ${path}`, MAX_INPUT);
    await writeOutput(undefined, toHex(bytes));
  },
};

export const rand: Command = {
  name: 'rand',
  about: 'Generate random data',
  options: [
    {
      name: 'bytes',
      short: 'n',
      value: 'BYTES',
      help: 'number of bytes to generate',
      default: '20',
      isNumber: true,
    },
    { name: 'output', short: 'o', value: 'OUTPUT', help: 'output to file' },
    { name: 'hex', short: 'x', help: 'hex encode output' },
  ],
  async run(values) {
    const size = Number(requiredText(values, 'bytes'));
    if (size > MAX_RANDOM) throw new UtilError(`--bytes is at most ${MAX_RANDOM}`);
    const bytes = new Uint8Array(randomBytes(size));
    const data = values['hex'] ? toHex(bytes) : bytes;
    const path = textOf(values, 'output');
    if (path === undefined) await writeOutput(undefined, data);
    else await writeSecret(path, data);
  },
};
