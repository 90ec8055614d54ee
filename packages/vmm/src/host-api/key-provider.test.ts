/** The way of a sealing key through the host: machine, host API, key provider enclave. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPrpcClient, HostApi, httpTransport } from '@dstack-cloud/prpc';
import { createPlatform, keyProvider, simulatedBoot } from '@dstack-cloud/tee-simulator';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePort } from '../ports/ports.ts';
import { startHostApi } from './host-api.ts';
import { requireKeyProvider } from './key-provider.ts';

const SEED = new Uint8Array(32).fill(7);
const boot = simulatedBoot({ image: 'dstack-test' });
const quote = createPlatform(SEED).quote(new Uint8Array(64).fill(9, 0, 32), {
  mrTd: boot.mrTd,
  rtmrs: [...boot.rtmrs, new Uint8Array(48)],
});

let directory: string;
const ends: (() => unknown)[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'host-'));
});
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
  rmSync(directory, { recursive: true, force: true });
});

/** What a machine sees whose host has its key provider at this port. */
async function machineOf(port: number) {
  const socketPath = join(directory, 'host.sock');
  const api = await startHostApi(socketPath, () => undefined, { host: '127.0.0.1', port });
  const transport = httpTransport({ baseUrl: 'http://localhost/api', socketPath });
  ends.push(() => {
    transport.close();
    api.closeAllConnections();
    api.close();
  });
  return createPrpcClient(HostApi, transport);
}

/** A key provider that does this with every connection. */
async function provider(behave: (socket: Socket) => void): Promise<number> {
  const open = new Set<Socket>();
  const server: Server = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    behave(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return (server.address() as { port: number }).port;
}

const message = (text: string): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
};

describe('a machine that asks for a sealing key', () => {
  it('gets what the key provider of its host answers', async () => {
    const enclave = await keyProvider(SEED);
    ends.push(() => enclave.close());
    const answer = await (await machineOf(enclave.port)).getSealingKey({ quote });
    expect(answer.encryptedKey).toHaveLength(32 + 16 + 32);
    expect(answer.providerQuote.length).toBeGreaterThan(1000);
  });

  it('is told that the key provider refuses its quote', async () => {
    const enclave = await keyProvider(new Uint8Array(32).fill(8));
    ends.push(() => enclave.close());
    await expect((await machineOf(enclave.port)).getSealingKey({ quote })).rejects.toThrow(
      /refused the quote/,
    );
  });

  it('is told that there is none', async () => {
    const port = await provider(() => undefined);
    await ends.pop()!();
    const asked = (await machineOf(port)).getSealingKey({ quote });
    await expect(asked).rejects.toThrow(
      `This host has no local key provider: nobody listens on 127.0.0.1:${port}`,
    );
  });

  it.each([
    ['that is not JSON', message('{'), /answer that is none/],
    ['without a quote', message('{"encrypted_key":[1]}'), /answer that is none/],
    [
      'with numbers that are no bytes',
      message('{"encrypted_key":[256],"provider_quote":[1]}'),
      /answer that is none/,
    ],
    ['of impossible size', Buffer.from('ffffffff', 'hex'), /impossible size/],
    ['with more after it', Buffer.concat([message('{}'), Buffer.from('x')]), /impossible size/],
  ])('gets no answer %s', async (_, bytes, reason) => {
    const port = await provider((socket) => socket.end(bytes));
    await expect((await machineOf(port)).getSealingKey({ quote })).rejects.toThrow(reason);
  });

  it('asks one at a time, and nothing without a quote', async () => {
    let asked: () => void = () => undefined;
    const arrived = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const sockets: Socket[] = [];
    const port = await provider((socket) => {
      sockets.push(socket);
      asked();
    });
    const machine = await machineOf(port);
    await expect(machine.getSealingKey({})).rejects.toThrow(/A quote has/);
    const first = machine.getSealingKey({ quote }).catch((error: unknown) => error);
    await arrived;
    await expect(machine.getSealingKey({ quote })).rejects.toThrow(/Another request/);
    for (const socket of sockets) socket.destroy();
    expect(String(await first)).toMatch(/refused the quote|cannot be asked/);
  });
});

it('is looked for before a machine that needs it is touched', async () => {
  const port = await provider(() => undefined);
  await expect(requireKeyProvider({ host: '127.0.0.1', port })).resolves.toBeUndefined();
  const nobody = await freePort();
  await expect(requireKeyProvider({ host: '127.0.0.1', port: nobody })).rejects.toMatchObject({
    code: 'program_missing',
    message: expect.stringMatching(/no key provider .*: start it, or set key_provider to kms/),
    expected: `a key provider on 127.0.0.1:${nobody}`,
  });
});
