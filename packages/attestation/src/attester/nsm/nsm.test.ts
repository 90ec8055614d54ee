import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concatBytes, encodeCbor, fromHex, toHex } from '@dstack-cloud/encoding';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nativeCalls } from '../native/koffi.ts';
import { Nsm, nsmAttestationRequest } from './nsm.ts';
import { nsmTransport } from './nsm-transport.ts';

let directory: string;
let path: string;
let server: Server | undefined;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'nsm-'));
  path = join(directory, 's');
});
afterEach(() => {
  server?.close();
  server = undefined;
  rmSync(directory, { recursive: true });
});

/** A stand-in that answers every request with the same bytes. */
async function standIn(answer: (socket: Socket) => void): Promise<Nsm> {
  server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', () => answer(socket));
  });
  await new Promise<void>((resolve) => server!.listen(path, resolve));
  return new Nsm(`unix:${path}`, 200);
}

const framed = (bytes: Uint8Array): Uint8Array =>
  concatBytes(Uint8Array.of(0, 0, bytes.length >> 8, bytes.length & 0xff), bytes);

describe('requests', () => {
  test('are the bytes of the library of AWS', () => {
    const userData = new Uint8Array(64).fill(0xab);
    expect(toHex(nsmAttestationRequest({ userData }))).toBe(
      `a16b4174746573746174696f6ea369757365725f646174615840${'ab'.repeat(64)}656e6f6e6365f66a7075626c69635f6b6579f6`,
    );
  });

  test.each([{ userData: 513 }, { nonce: 513 }, { publicKey: 1025 }])('refuse %o bytes', (sizes) => {
    const input = Object.fromEntries(
      Object.entries(sizes).map(([name, size]) => [name, new Uint8Array(size)]),
    );
    expect(() => nsmAttestationRequest(input)).toThrow(/the NSM takes/);
  });

  test('that the driver would refuse are not sent', async () => {
    const request = new Uint8Array(0x1001);
    await expect(nsmTransport('unix:/nonexistent', 100).exchange(request)).rejects.toMatchObject({
      code: 'too-large',
    });
  });
});

describe('answers', () => {
  test('come in pieces', async () => {
    const bytes = framed(encodeCbor({ GetRandom: { random: Uint8Array.of(1, 2) } }));
    const nsm = await standIn((socket) => {
      socket.write(bytes.subarray(0, 3));
      setTimeout(() => socket.write(bytes.subarray(3)), 20);
    });
    expect(await nsm.random()).toEqual(Uint8Array.of(1, 2));
  });

  test.each<[string, Uint8Array]>([
    ['an error', framed(encodeCbor({ Error: 'InternalError' }))],
    ['another answer', framed(encodeCbor({ DescribeNSM: {} }))],
    ['two answers in one', framed(encodeCbor({ GetRandom: { random: Uint8Array.of(1) }, Error: 'x' }))],
    ['no bytes', framed(encodeCbor({ GetRandom: { random: 'text' } }))],
    ['the name alone', framed(encodeCbor('GetRandom'))],
    ['no CBOR', framed(fromHex('ff00'))],
    ['nothing', framed(new Uint8Array())],
    [
      'bytes after it',
      concatBytes(framed(encodeCbor({ GetRandom: { random: Uint8Array.of(1) } })), Uint8Array.of(0)),
    ],
    ['an endless length', fromHex('ffffffff')],
    ['silence', new Uint8Array()],
  ])('%s is an error', async (_, bytes) => {
    const nsm = await standIn((socket) => socket.write(bytes));
    await expect(nsm.random()).rejects.toMatchObject({ code: 'device' });
  });

  test('that hang up are an error', async () => {
    const nsm = await standIn((socket) => socket.destroy());
    await expect(nsm.random()).rejects.toMatchObject({ code: 'device' });
  });
});

test('the ioctl of a device that is no NSM is refused by the kernel', async (context) => {
  if (!(await nativeCalls())) context.skip('koffi is not installed');
  // ENOTTY, 25: the call reached the driver with this request number.
  await expect(new Nsm('/dev/null').random()).rejects.toThrow('errno 25');
});
