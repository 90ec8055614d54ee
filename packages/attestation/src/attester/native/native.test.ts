import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openRtmrs } from '../rtmr.ts';
import { flock } from './flock.ts';
import { nativeCalls } from './koffi.ts';
import { resizePartition } from './resize-partition.ts';
import { notifyServiceManager } from './service-manager.ts';
import { extendRtmrByIoctl, tdReportByIoctl } from './tdx-guest.ts';
import { adoptSocket, serveStreams } from './vsock.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'native-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const installed = (await nativeCalls()) !== undefined;

describe.skipIf(!installed)(`native calls${installed ? '' : ' (skipped: koffi is not installed)'}`, () => {
  test('reach the driver, whose refusal is an error', async () => {
    const refusal = { code: 'device', found: 'errno 25' };
    await expect(tdReportByIoctl('/dev/null', new Uint8Array(64))).rejects.toMatchObject(refusal);
    await expect(extendRtmrByIoctl('/dev/null', 3, new Uint8Array(48))).rejects.toMatchObject(refusal);
    await expect(resizePartition('/dev/null', { number: 1, start: 0, size: 512 })).rejects.toMatchObject(
      refusal,
    );
    await expect(tdReportByIoctl('/nonexistent', new Uint8Array(64))).rejects.toMatchObject({
      code: 'device',
    });
  });

  test('adopt a socket that libuv does not know by itself', async () => {
    const { libc } = (await nativeCalls())!;
    const socketpair = libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)');
    const fds = new Int32Array(2);
    expect(socketpair(1, 1, 0, fds)).toBe(0);
    const [one, other] = [await adoptSocket(fds[0]!), await adoptSocket(fds[1]!)];
    const received = once(other, 'data');
    one.write('over the pair');
    expect(String((await received)[0])).toBe('over the pair');
    const closed = once(other, 'close');
    one.destroy();
    other.resume();
    await closed;
  });

  test('answer a peer that has said all, where a stream is to stay half open', async () => {
    const { libc } = (await nativeCalls())!;
    const socketpair = libc.func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)');
    const fds = new Int32Array(2);
    expect(socketpair(1, 1, 0, fds)).toBe(0);
    const asking = await adoptSocket(fds[0]!, { allowHalfOpen: true });
    const answering = await adoptSocket(fds[1]!, { allowHalfOpen: true });
    answering.resume();
    answering.once('end', () => setImmediate(() => answering.end('answer')));
    asking.end('question');
    expect(String((await once(asking, 'data'))[0])).toBe('answer');
  });

  test('serve streams on a descriptor, and end those of strangers', async () => {
    const { libc } = (await nativeCalls())!;
    const socket = libc.func('int socket(int domain, int type, int protocol)');
    const bind = libc.func('int bind(int fd, const uint8_t *address, unsigned int size)');
    const path = join(directory, 'served');
    const address = new Uint8Array(Buffer.concat([Buffer.from([1, 0]), Buffer.from(path), Buffer.from([0])]));
    const fd = socket(1, 1, 0) as number;
    expect(bind(fd, address, address.length)).toBe(0);
    let welcome = true;
    const listener = await serveStreams(
      fd,
      () => welcome,
      (stream) => stream.end('hello'),
    );
    const first = connect({ path });
    expect(String((await once(first, 'data'))[0])).toBe('hello');
    welcome = false;
    const second = connect({ path });
    let received = '';
    second.on('data', (bytes) => {
      received += String(bytes);
    });
    await once(second, 'close');
    expect(received).toBe('');
    first.destroy();
    await listener.close();
  });

  test('tell a service manager, by path and by abstract name', async () => {
    const { libc } = (await nativeCalls())!;
    const socket = libc.func('int socket(int domain, int type, int protocol)');
    const bind = libc.func('int bind(int fd, const uint8_t *address, unsigned int size)');
    const recv = libc.func('long recv(int fd, _Out_ uint8_t *bytes, unsigned long size, int flags)');
    const abstract = `dstack-notify-${process.pid}`;
    for (const [text, name] of [
      [join(directory, 'notify'), join(directory, 'notify')],
      [`@${abstract}`, `\0${abstract}`],
    ] as const) {
      const address = new Uint8Array(Buffer.concat([Buffer.from([1, 0]), Buffer.from(name)]));
      const fd = socket(1, 2, 0) as number;
      expect(bind(fd, address, address.length)).toBe(0);
      expect(await notifyServiceManager('READY=1', text)).toBe(true);
      const bytes = new Uint8Array(64);
      const length = Number(recv(fd, bytes, bytes.length, 0));
      expect(Buffer.from(bytes.subarray(0, length)).toString()).toBe('READY=1');
      closeSync(fd);
    }
    expect(await notifyServiceManager('READY=1', '')).toBe(false);
    await expect(notifyServiceManager('READY=1', 'relative')).rejects.toMatchObject({ code: 'device' });
    await expect(notifyServiceManager('READY=1', join(directory, 'none'))).rejects.toMatchObject({
      code: 'device',
    });
  });

  test('lock a file', async () => {
    const path = join(directory, 'file');
    writeFileSync(path, '');
    expect(await flock(openSync(path, 'r'))).toBe(true);
  });
});

describe('registers', () => {
  test('in sysfs take the digest as it is', async () => {
    writeFileSync(join(directory, 'rtmr3:sha384'), new Uint8Array(48));
    const registers = openRtmrs(directory, 100);
    const digest = new Uint8Array(48).fill(7);
    await registers.extend(3, digest);
    expect(new Uint8Array(readFileSync(join(directory, 'rtmr3:sha384')))).toEqual(digest);
    expect(await registers.read(3)).toEqual(digest);
  });

  test.each([0, 1, 4, -1, 2.5])('RTMR%d is refused', async (index) => {
    const refused = { code: 'unsupported' };
    await expect(openRtmrs(directory, 100).extend(index, new Uint8Array(48))).rejects.toMatchObject(refused);
    const byIoctl = openRtmrs('ioctl:/dev/null', 100);
    await expect(byIoctl.extend(index, new Uint8Array(48))).rejects.toMatchObject(refused);
  });

  test('refuse digests of another size, and name what is missing', async () => {
    const registers = openRtmrs(directory, 100);
    await expect(registers.extend(3, new Uint8Array(32))).rejects.toMatchObject({ code: 'malformed' });
    await expect(registers.read(3)).rejects.toMatchObject({ code: 'device', found: 'ENOENT' });
    writeFileSync(join(directory, 'rtmr3:sha384'), 'short');
    await expect(registers.read(3)).rejects.toMatchObject({ code: 'device' });
    expect(await openRtmrs('ioctl:/dev/null', 100).read(3)).toBeUndefined();
  });
});
