import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';
import { startAnvil } from '../anvil.ts';
import { contractsDirectory } from '../artifact.ts';
import { connectChain } from '../chain-client.ts';

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

test('starts on a free port, has funded accounts, and is gone after stop', async () => {
  const [one, two] = await Promise.all([startAnvil(), startAnvil({ chainId: 4242 })]);
  try {
    expect(one.port).not.toBe(two.port);
    const [account] = two.accounts;
    const client = await connectChain({ rpcUrl: two.rpcUrl, privateKey: account!.privateKey });
    expect(client.chain.id).toBe(4242);
    expect(client.account.address).toBe(account!.address);
    expect(await client.public.getBalance({ address: account!.address })).toBeGreaterThan(0n);
  } finally {
    await Promise.all([one.stop(), two.stop()]);
  }
  await one.stop();
  expect([isAlive(one.pid), isAlive(two.pid)]).toEqual([false, false]);
});

test('does not outlive a process that is killed', async () => {
  const script = `import(${JSON.stringify(resolve(contractsDirectory, 'src/anvil.ts'))}).then(async (module) => {
    console.log('pid', (await module.startAnvil()).pid);
  })`;
  const flags = ['--import', 'tsx', '-C', '@dstack/source', '--input-type=module', '-e', script];
  const parent = spawn(process.execPath, flags, { cwd: contractsDirectory, timeout: 20_000 });
  let output = '';
  parent.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  await expect.poll(() => output, { timeout: 15_000 }).toMatch(/pid \d+/);
  const pid = Number(/pid (\d+)/.exec(output)?.[1]);
  expect(isAlive(pid)).toBe(true);
  parent.kill('SIGKILL');
  await expect.poll(() => isAlive(pid), { timeout: 5_000 }).toBe(false);
});

test('time moves on without transactions when asked', async () => {
  const anvil = await startAnvil({ blockTimeSeconds: 1 });
  try {
    const { public: reader } = await connectChain({
      rpcUrl: anvil.rpcUrl,
      privateKey: anvil.accounts[0]!.privateKey,
    });
    const before = await reader.getBlockNumber();
    await expect.poll(() => reader.getBlockNumber(), { timeout: 10_000 }).toBeGreaterThan(before);
  } finally {
    await anvil.stop();
  }
});

test('a port in use is an error, not a wait', async () => {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', () => done()));
  const { port } = server.address() as { port: number };
  try {
    await expect(startAnvil({ port })).rejects.toMatchObject({ code: 'anvil-not-ready' });
  } finally {
    server.close();
  }
});
