import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openRtmrs } from '../rtmr.ts';
import { flock } from './flock.ts';
import { nativeCalls } from './koffi.ts';
import { extendRtmrByIoctl, tdReportByIoctl } from './tdx-guest.ts';
import { adoptSocket } from './vsock.ts';

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
