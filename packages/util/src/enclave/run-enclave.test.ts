import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createNitro, nsmEndpoint } from '@dstack-cloud/tee-simulator';
import { openVsock, type Vsock } from '@dstack-cloud/vsock';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { UtilError } from '../errors.ts';
import { thisMachine } from '../machine.ts';
import type { EnclaveHost } from './enclave-host.ts';
import { type EnclaveOptions, requireFilled, runEnclave } from './run-enclave.ts';
import { beat } from './tell-host.ts';

let directory: string;
let parent: Vsock;
let enclave: Vsock;
const open: { close(): unknown }[] = [];
const done: string[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'enclave-'));
  parent = openVsock(`host:${join(directory, 'vm.vsock')}`);
  enclave = openVsock(`guest:${join(directory, 'vm.vsock')}`);
  done.length = 0;
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  rmSync(directory, { recursive: true });
});

const host = (changes: Partial<EnclaveHost> = {}): EnclaveHost => ({
  raiseLoopback: async () => void done.push('loopback'),
  listenTcp: async (address, port) => {
    done.push(`relay ${address}:${port}`);
    return { close: async () => void done.push('relay closed') };
  },
  connectTcp: async () => {
    throw new UtilError('must not be connected');
  },
  start: async () => {
    throw new UtilError('must not be started');
  },
  onSignal: () => undefined,
  ...changes,
});
const options = (changes: Partial<EnclaveOptions> = {}): EnclaveOptions => ({
  kmsUrl: 'https://kms.example:12001',
  appId: new Uint8Array(20),
  rootCa: join(directory, 'root_ca.pem'),
  proxy: { cid: 3, port: 3128 },
  relay: { address: '127.0.0.1', port: 3128 },
  keysFile: join(directory, 'keys.json'),
  keysVariable: undefined,
  heartbeat: false,
  agentSocket: undefined,
  ingress: [],
  reportPort: 9001,
  command: ['/app'],
  machine: thisMachine({ DSTACK_NSM: `unix:${join(directory, 'nsm.sock')}` }),
  env: {},
  ...changes,
});

/** What the parent is told. */
async function told(): Promise<{ reports: object[] }> {
  const reports: object[] = [];
  open.push(
    await parent.listen(9001, (stream: Socket) => {
      let text = '';
      stream.on('data', (chunk) => {
        text += String(chunk);
      });
      stream.on('end', () => {
        reports.push(JSON.parse(text) as object);
        stream.end();
      });
    }),
  );
  return { reports };
}
const until = async (isTrue: () => boolean): Promise<void> => {
  while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 5));
};

describe('an enclave that gets no keys', () => {
  test('starts nothing, says why, and tells its parent', async () => {
    const { reports } = await told();
    writeFileSync(join(directory, 'root_ca.pem'), 'placeholder');
    const said: string[] = [];
    expect(await runEnclave(options(), enclave, host(), (line) => said.push(line))).toBe(1);
    await until(() => reports.length === 1);
    expect(reports[0]).toMatchObject({ stage: 'keys', exit_code: 1 });
    expect(said.join('\n')).toMatch(/holds no certificate: it is still the placeholder/);
    expect(done).toEqual(['loopback', 'relay 127.0.0.1:3128']);
  });

  test('ends also when nobody listens to how', async () => {
    expect(await runEnclave(options(), enclave, host(), () => undefined)).toBe(1);
  });

  test('without a loopback interface it goes no further', async () => {
    const { reports } = await told();
    const raiseLoopback = (): Promise<void> => Promise.reject(new UtilError('no tool for it'));
    expect(await runEnclave(options(), enclave, host({ raiseLoopback }), () => undefined)).toBe(1);
    await until(() => reports.length === 1);
    expect(reports[0]).toMatchObject({ stage: 'loopback', error: 'Error: no tool for it\n' });
  });
});

test.each(['SIGTERM', 'SIGINT'] as const)(
  '%s ends an enclave that still waits for its keys, and is reported',
  async (signal) => {
    const { reports } = await told();
    const nitro = createNitro(new Uint8Array(32));
    open.push(await nsmEndpoint(nitro, { socketPath: join(directory, 'nsm.sock') }));
    // A root that the KMS, which never answers, would have to have.
    writeFileSync(join(directory, 'root_ca.pem'), nitro.rootPem);
    let asked = (): void => undefined;
    const connecting = new Promise<void>((resolve) => {
      asked = resolve;
    });
    open.push(await parent.listen(3128, () => asked()));
    const said: string[] = [];
    const handlers = new Map<string, () => void>();
    const found = runEnclave(
      options({ env: { DSTACK_VSOCK: `guest:${join(directory, 'vm.vsock')}` } }),
      enclave,
      host({ onSignal: (name, handler) => void handlers.set(name, handler) }),
      (line) => said.push(line),
    );
    await Promise.race([connecting, found.then(() => expect.fail(said.join('\n')))]);
    handlers.get('SIGUSR1')?.();
    handlers.get(signal)?.();
    expect(await found).toBe(signal === 'SIGTERM' ? 143 : 130);
    await until(() => reports.length === 1);
    expect(reports[0]).toEqual({ stage: 'keys', exit_code: signal === 'SIGTERM' ? 143 : 130, signal });
  },
);

describe('the heartbeat', () => {
  test('is one byte, which comes back', async () => {
    const got: number[] = [];
    open.push(
      await parent.listen(9000, (stream) => {
        stream.on('data', (chunk: Buffer) => {
          got.push(...chunk);
          stream.write(chunk);
        });
        stream.on('end', () => stream.end());
      }),
    );
    await beat(enclave);
    expect(got).toEqual([0xb7]);
  });

  test('another byte, and nobody, are errors', async () => {
    await expect(beat(enclave)).rejects.toThrow(/does not answer the heartbeat/);
    open.push(await parent.listen(9000, (stream) => void stream.end('x')));
    await expect(beat(enclave)).rejects.toThrow(/does not answer the heartbeat/);
  });
});

test('a placeholder of the template is no value', () => {
  expect(() => requireFilled('app-id', '__APP_ID__')).toThrow(/--app-id is still the placeholder __APP_ID__/);
  expect(requireFilled('app-id', '0x00')).toBe('0x00');
});
