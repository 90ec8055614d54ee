import { CliError } from '../errors.ts';

/** Byte order marks of what editors of other systems write; the longer one first. */
const ENCODINGS: readonly (readonly [string, readonly number[]])[] = [
  ['UTF-32 (little-endian)', [0xff, 0xfe, 0, 0]],
  ['UTF-32 (big-endian)', [0, 0, 0xfe, 0xff]],
  ['UTF-16 (little-endian)', [0xff, 0xfe]],
  ['UTF-16 (big-endian)', [0xfe, 0xff]],
];

/**
 * The text of an environment file. A byte order mark of UTF-8 stays at its beginning, so that writing the text back
 * changes nothing.
 * @throws CliError `bad_env` naming the encoding, or the line that is no UTF-8
 */
export function decodeEnv(bytes: Uint8Array, path: string): string {
  const encoding = ENCODINGS.find(([, mark]) => mark.every((byte, index) => bytes[index] === byte))?.[0];
  const refuse = (problem: string, found: string): never => {
    throw new CliError('bad_env', `${path}${problem}`, {
      expected: 'UTF-8 text',
      found,
      hint: 'Save it as UTF-8; bytes that are no text can be encoded, for example with base64',
    });
  };
  if (encoding !== undefined) refuse(` is ${encoding} text`, encoding);
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return decoder.decode(bytes);
  } catch {
    return refuse(`:${badLine(bytes)}: this line is no UTF-8 text`, 'other bytes');
  }
}

function badLine(bytes: Uint8Array): number {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let line = 1;
  for (let start = 0; start < bytes.length; line += 1) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      return line;
    }
    start = end + 1;
  }
  return line;
}
