import { PassThrough } from 'node:stream';
import type { ReadStream } from 'node:tty';
import { expect, it } from 'vitest';
import { readSecret } from './read-secret.ts';

function terminal(): { stream: ReadStream; typed: PassThrough; modes: boolean[] } {
  const typed = new PassThrough();
  const modes: boolean[] = [];
  const stream = Object.assign(typed, { setRawMode: (raw: boolean) => void modes.push(raw) });
  return { stream: stream as unknown as ReadStream, typed, modes };
}

it('reads to the end of the line, and shows nothing', async () => {
  const { stream, typed, modes } = terminal();
  const read = readSecret(stream, 100);
  for (const part of ['sec', 'reé', '\x7f', 't\r']) typed.write(part);
  expect((await read).toString()).toBe('secret');
  expect(modes).toEqual([true, false]);
});

it('ends with Ctrl-C, and gives the terminal back', async () => {
  const { stream, typed, modes } = terminal();
  const read = readSecret(stream, 100);
  typed.write('abc\x03');
  await expect(read).rejects.toMatchObject({ code: 'interrupted' });
  expect(modes).toEqual([true, false]);
});

it('is bounded', async () => {
  const { stream, typed, modes } = terminal();
  const read = readSecret(stream, 4);
  typed.write('abcde');
  await expect(read).rejects.toThrow('larger than 4 bytes');
  expect(modes).toEqual([true, false]);
});
