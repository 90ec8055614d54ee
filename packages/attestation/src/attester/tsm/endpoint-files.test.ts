import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openEndpoint } from './open-files.ts';

let directory: string;
let path: string;
let server: Server | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ep-'));
  path = join(directory, 's');
});
afterEach(() => {
  server?.close();
  server = undefined;
  rmSync(directory, { recursive: true });
});

/** An endpoint that answers each line as the test says; undefined is silence. */
async function endpoint(answer: (line: string, socket: Socket) => string | undefined): Promise<void> {
  server = createServer((socket) => {
    socket.setEncoding('utf8');
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk) => {
      for (const line of String(chunk).trimEnd().split('\n')) {
        const reply = answer(line, socket);
        if (reply !== undefined) socket.write(reply);
      }
    });
  });
  await new Promise<void>((resolve) => server!.listen(path, resolve));
}

describe('an endpoint', () => {
  test('answers reads and writes in order', async () => {
    const seen: string[] = [];
    await endpoint((line) => {
      seen.push(line);
      return '{"ok":true,"data":"0102"}\n';
    });
    const files = openEndpoint(`unix:${path}`, 1000);
    const [, data] = await Promise.all([
      files.write('inblob', Uint8Array.of(0xff)),
      files.read('outblob', 10),
    ]);
    expect(data).toEqual(Uint8Array.of(1, 2));
    expect(seen).toEqual(['{"op":"write","file":"inblob","data":"ff"}', '{"op":"read","file":"outblob"}']);
    await files.close();
  });

  test('takes an answer in pieces', async () => {
    await endpoint((_, socket) => {
      socket.write('{"ok":true,');
      setTimeout(() => socket.write('"data":"07"}\n'), 20);
      return undefined;
    });
    const files = openEndpoint(`unix:${path}`, 1000);
    expect(await files.read('outblob', 1)).toEqual(Uint8Array.of(7));
    await files.close();
  });

  test.each<[string, string | undefined, string]>([
    ['silence', undefined, 'ETIMEDOUT'],
    ['an error of the device', '{"ok":false,"errno":"EBUSY"}\n', 'EBUSY'],
    ['an error without a name', '{"ok":false}\n', 'EPROTO'],
    ['no JSON', 'hello\n', 'EPROTO'],
    ['JSON that is no object', 'null\n', 'EPROTO'],
    ['data that is no hex', '{"ok":true,"data":"xy"}\n', 'EPROTO'],
    ['no data', '{"ok":true}\n', 'EIO'],
    ['more than was allowed', '{"ok":true,"data":"000000"}\n', 'EFBIG'],
    ['two answers', '{"ok":true,"data":"00"}\n{"ok":true}\n', 'EPROTO'],
    ['an endless line', 'x'.repeat(70_000), 'EPROTO'],
  ])('%s is an error', async (_, reply, errno) => {
    await endpoint(() => reply);
    const files = openEndpoint(`unix:${path}`, 100);
    await expect(files.read('outblob', 2)).rejects.toMatchObject({ errno });
    await files.close();
  });

  test('that hangs up fails the call, and the next call finds it again', async () => {
    let calls = 0;
    await endpoint((_, socket) => {
      if (calls++ > 0) return '{"ok":true,"data":"01"}\n';
      socket.destroy();
      return undefined;
    });
    const files = openEndpoint(`unix:${path}`, 1000);
    await expect(files.read('outblob', 2)).rejects.toMatchObject({ errno: 'EPIPE' });
    expect(await files.read('outblob', 2)).toEqual(Uint8Array.of(1));
    await files.close();
  });

  test('that is not there is named', async () => {
    await expect(openEndpoint(`unix:${path}`, 100).read('outblob', 2)).rejects.toMatchObject({
      errno: 'ENOENT',
    });
  });
});
