import { once } from 'node:events';
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTdxQuote } from '@dstack-cloud/attestation';
import { openTdxDevice } from '@dstack-cloud/attestation/attester';
import { toHex } from '@dstack-cloud/encoding';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha384 } from '../image/hash.ts';
import { createPlatform } from '../platform.ts';
import { listenOnSocket } from './socket-server.ts';
import { type TsmEndpoint, type TsmEndpointOptions, tsmEndpoint } from './tsm-endpoint.ts';

const platform = createPlatform(new Uint8Array(32).fill(3));
let directory: string;
let socketPath: string;
let endpoint: TsmEndpoint | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'tsm-'));
  socketPath = join(directory, 's');
});
afterEach(async () => {
  await endpoint?.close();
  endpoint = undefined;
  rmSync(directory, { recursive: true });
});

async function start(options: Partial<TsmEndpointOptions> = {}): Promise<void> {
  endpoint = await tsmEndpoint(platform, { socketPath, image: 'test', ...options });
}

/** Sends lines over one connection; gives the answers until all came or the endpoint hung up. */
function talk(...lines: string[]): Promise<string[]> {
  return new Promise((resolve) => {
    const socket = connect({ path: socketPath });
    let received = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk) => {
      received += String(chunk);
      if (received.split('\n').length > lines.length) socket.destroy();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(received.split('\n').slice(0, -1)));
    socket.write(lines.map((line) => `${line}\n`).join(''));
  });
}

const read = (file: string) => JSON.stringify({ op: 'read', file });
const write = (file: string, data: Uint8Array) => JSON.stringify({ op: 'write', file, data: toHex(data) });
const refused = (errno: string) => JSON.stringify({ ok: false, errno });
const text = (value: string) => JSON.stringify({ ok: true, data: Buffer.from(value).toString('hex') });

describe('the files', () => {
  test('behave as the kernel files do', async () => {
    await start();
    const reportData = new Uint8Array(64).fill(1);
    const answers = await talk(
      read('provider'),
      read('generation'),
      read('outblob'),
      write('inblob', reportData),
      read('generation'),
      write('inblob', reportData.subarray(1)),
      read('generation'),
      read('inblob'),
      write('provider', reportData),
      read('rtmr4:sha384'),
      write('rtmr1:sha384', new Uint8Array(48)),
      write('rtmr3:sha384', new Uint8Array(47)),
      read('outblob'),
    );
    expect(answers.slice(0, -1)).toEqual([
      text('tdx_guest\n'),
      text('0\n'),
      refused('EINVAL'),
      '{"ok":true}',
      text('1\n'),
      refused('EINVAL'),
      text('1\n'),
      refused('EACCES'),
      refused('EACCES'),
      refused('ENOENT'),
      refused('EACCES'),
      refused('EINVAL'),
    ]);
    const { data } = JSON.parse(answers.at(-1)!) as { data: string };
    expect(parseTdxQuote(Uint8Array.from(Buffer.from(data, 'hex'))).td?.reportData).toEqual(reportData);
  });

  test('are an entry of its own for each connection, over one machine', async () => {
    await start();
    const digest = new Uint8Array(48).fill(7);
    await talk(write('inblob', new Uint8Array(64)), write('rtmr3:sha384', digest));
    expect(await talk(read('generation'), read('rtmr3:sha384'))).toEqual([
      text('0\n'),
      JSON.stringify({ ok: true, data: toHex(sha384(new Uint8Array(48), digest)) }),
    ]);
    expect(endpoint!.device.rtmrs[3]).toEqual(sha384(new Uint8Array(48), digest));
  });

  test('an extension that cannot be recorded does not happen', async () => {
    await start({ onExtend: () => Promise.reject(new Error('disk full')) });
    expect(await talk(write('rtmr3:sha384', new Uint8Array(48)))).toEqual([refused('EIO')]);
    expect(endpoint!.device.rtmrs[3]).toEqual(new Uint8Array(48));
  });

  test.each([
    '',
    '{',
    'null',
    '{"op":"read"}',
    '{"op":"write","file":"inblob","data":"xy"}',
    'x'.repeat(70_000),
  ])('the line %.40s ends the connection', async (line) => {
    await start();
    expect(await talk(line)).toEqual([]);
    expect(await talk(read('provider'))).toEqual([text('tdx_guest\n')]);
  });

  test('survive any bytes', async () => {
    await start();
    await fc.assert(
      fc.asyncProperty(fc.string({ maxLength: 200 }), async (noise) => {
        await talk(noise.replaceAll('\n', ' '));
      }),
      { numRuns: 30 },
    );
    expect(await talk(read('provider'))).toEqual([text('tdx_guest\n')]);
  });
});

describe('the socket', () => {
  test('is for its owner alone, and is not taken from a living endpoint', async () => {
    await start();
    expect(statSync(socketPath).mode & 0o777).toBe(0o600);
    await expect(tsmEndpoint(platform, { socketPath, image: 'test' })).rejects.toThrow(/Another program/);
  });

  test('of a dead endpoint is replaced', async () => {
    // A server removes its socket when it is closed, but not under another name.
    const server = createServer().listen(`${socketPath}-first`);
    await once(server, 'listening');
    renameSync(`${socketPath}-first`, socketPath);
    server.close();
    await once(server, 'close');
    expect(statSync(socketPath).isSocket()).toBe(true);
    await start();
    expect(await talk(read('provider'))).toEqual([text('tdx_guest\n')]);
  });

  test('must fit into the address', async () => {
    socketPath = join(directory, 'x'.repeat(120));
    await expect(start()).rejects.toThrow(/longer than 107 bytes/);
  });
});

describe('the device of production', () => {
  const open = () =>
    openTdxDevice({
      tsm: `unix:${socketPath}`,
      rtmr: `unix:${socketPath}`,
      ccel: `unix:${socketPath}`,
      eventLog: join(directory, 'events.log'),
      vmConfig: () => '',
      timeoutMs: 2000,
    });
  const event = { event: 'app-id', payload: new Uint8Array(20) };

  test('takes many quotes and events at once, each consistent', async () => {
    await start();
    const devices = await Promise.all([open(), open()]);
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const device = devices[i % 2]!;
        await device.emitEvent(event);
        const reportData = new Uint8Array(64).fill(i);
        expect((await device.attest(reportData)).reportData).toEqual(reportData);
      }),
    );
    expect(await devices[0]!.events()).toHaveLength(20);
  });

  test('starts with an empty log after a reboot, and refuses a log that does not replay', async () => {
    await start();
    await (await open()).emitEvent(event);
    await endpoint!.close();
    await start();
    const device = await open();
    expect(await device.events()).toEqual([]);
    await endpoint!.device.extend(3, new Uint8Array(48));
    await expect(device.attest(new Uint8Array(64))).rejects.toMatchObject({
      code: 'event-log',
      check: 'rtmr3',
    });
  });

  test('gives no evidence after a lost extension', async () => {
    let fail = false;
    await start({ onExtend: async () => (fail ? Promise.reject(new Error('lost')) : undefined) });
    const device = await open();
    await device.emitEvent(event);
    fail = true;
    await expect(device.emitEvent(event)).rejects.toMatchObject({ code: 'event-log' });
    fail = false;
    await expect(device.attest(new Uint8Array(64))).rejects.toMatchObject({ code: 'event-log' });
    await expect((await open()).attest(new Uint8Array(64))).rejects.toMatchObject({ code: 'event-log' });
  });

  test('says what is wrong when the endpoint is gone', async () => {
    await start();
    const device = await open();
    await endpoint!.close();
    endpoint = undefined;
    await expect(device.attest(new Uint8Array(64))).rejects.toMatchObject({ code: 'device' });
  });
});

describe('the path of the socket', () => {
  test('is not cleared of anything but a dead socket', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'socket-'));
    const path = join(folder, 'state.json');
    writeFileSync(path, 'precious');
    await expect(listenOnSocket(path, () => undefined)).rejects.toMatchObject({ code: 'listen' });
    expect(readFileSync(path, 'utf8')).toBe('precious');
    rmSync(folder, { recursive: true });
  });
});
