/** `kms …`, `app …` and `info …` on the contract of the global configuration, on a local chain. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type Anvil, buildContracts, connectChain, deployKms, startAnvil } from '@dstack-cloud/contracts';
import { createPublicClient, http } from 'viem';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { LyingEndpoint } from '../gov/lying-endpoint.ts';
import { Sandbox } from '../testing.ts';

vi.setConfig({ testTimeout: 120_000 });

const HASH = 'ab'.repeat(32);

let anvil: Anvil;
let box: Sandbox;
let kms: string;
beforeAll(async () => {
  await buildContracts();
  anvil = await startAnvil();
  const [account] = anvil.accounts;
  const { rpcUrl } = anvil;
  ({ kms } = await deployKms({
    client: await connectChain({ rpcUrl, privateKey: account!.privateKey, pollingIntervalMs: 10 }),
  }));
  box = new Sandbox();
  writeFileSync(box.path('key'), account!.privateKey, { mode: 0o600 });
  configure({});
}, 120_000);
afterAll(async () => {
  await anvil?.stop();
  box?.remove();
});

function configure(changes: object): void {
  const chain = { rpc_url: anvil.rpcUrl, kms_contract: kms, private_key_file: box.path('key'), ...changes };
  mkdirSync(box.path('.config/dstack-cloud'), { recursive: true });
  writeFileSync(box.path('.config/dstack-cloud/config.json'), JSON.stringify({ chain }));
}

describe('contract tasks', () => {
  it('write to the configured contract with the configured account', async () => {
    const { code, stdout, stderr } = await box.run('kms', 'add-image', HASH);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(
      /^Waiting for transaction 0x\w+ to be confirmed\.\.\.\nImage added successfully\n$/,
    );
    expect((await box.run('info', 'image', HASH)).stdout).toBe('OS image allowed: true\n');
  });

  it('take options before and after the values, and global ones', async () => {
    const made = JSON.parse((await box.run('kms', 'create-app', '--allow-any-device', '--json')).stdout);
    const { appId } = made;
    expect((await box.run('app', 'add-hash', '--app-id', appId, HASH)).code).toBe(0);
    expect((await box.run('app', 'remove-hash', HASH, '--app-id', appId, '-q')).code).toBe(0);
    const { stdout } = await box.run('info', 'app', '--app-id', appId, '--json');
    expect(JSON.parse(stdout)).toMatchObject({ registered: true, allowAnyDevice: true, version: '3' });
  });

  it('give a Safe and other programs JSON that they can read', async () => {
    const safe = anvil.accounts[0]!.address;
    const { stdout, stderr } = await box.run('kms', 'add-image', HASH, '--safe', safe);
    expect(JSON.parse(stdout)).toMatchObject({ chainId: '31337', transactions: [{ to: kms, value: '0' }] });
    expect(stderr).toContain('nothing was sent');
    const shown = (await box.run('info', 'kms')).stdout;
    expect(JSON.parse(shown.replace(/^KMS Info: /, ''))).toMatchObject({ quote: '0x' });
  });

  it('ask before code is deployed', async () => {
    expect((await box.run('kms', 'deploy-impl')).code).toBe(4);
    const { stdout } = await box.run('kms', 'deploy-impl', '--yes');
    expect(stdout).toContain('✅ DstackKms implementation deployed to: 0x');
  });

  it('show their arguments', async () => {
    for (const flag of ['--help', '-h']) {
      expect((await box.run('kms', 'add-image', flag)).stdout).toContain('<os-image-hash>');
    }
    expect((await box.run('kms', '--help')).stdout).toContain('add-image');
  });

  it('show neither the URL of the endpoint nor a key in it', async () => {
    configure({ rpc_url: `${anvil.rpcUrl}/?secret-key` });
    const { code, stderr } = await box.run('app', 'add-hash', '--app-id', kms, HASH);
    configure({ rpc_url: 'http://127.0.0.1:1/secret-key' });
    const unreachable = await box.run('kms', 'pause', '--json');
    configure({});
    expect(code).toBe(1);
    expect(stderr).toMatch(/^Error: addComposeHash is refused: [^\n]+\n$/);
    expect(unreachable.stderr).toContain('127.0.0.1:1 does not answer');
    expect(`${stderr}${unreachable.stdout}${unreachable.stderr}`).not.toContain('secret-key');
  });

  it('do not show what is in a key file that has no key', async () => {
    writeFileSync(box.path('outside'), 'f'.repeat(64), { mode: 0o600 });
    configure({ private_key_file: box.path('outside') });
    const { code, stderr } = await box.run('kms', 'pause');
    configure({});
    expect(code).toBe(1);
    expect(stderr).toContain('out of the range of secp256k1');
    expect(stderr).not.toMatch(/f{9}|\d{12}/);
  });

  it.each([
    ['a missing value', ['kms', 'add-image'], 2, 'needs <os-image-hash>'],
    ['an unknown option', ['kms', 'pause', '--nosuch'], 2, 'no option --nosuch'],
    ['a short hash', ['kms', 'add-image', '12'], 1, 'must have 64 hex digits'],
  ])('refuse %s', async (_, argv, code, message) => {
    const outcome = await box.run(...argv);
    expect(outcome.stderr).toContain(message);
    expect(outcome.code).toBe(code);
  });

  it('refuse another chain than the configured one, and two contracts', async () => {
    configure({ chain_id: 1 });
    expect((await box.run('kms', 'pause')).stderr).toContain('must be chain 1');
    configure({});
    box.env = { KMS_CONTRACT_ADDRESS: `0x${'12'.repeat(20)}` };
    expect((await box.run('kms', 'pause')).stderr).toContain('name different contracts');
    box.env = {};
    // Another network has its own contract.
    box.env = { RPC_URL: anvil.rpcUrl };
    expect((await box.run('info', 'owner', '--network', 'custom')).stderr).toContain(
      'Set KMS_CONTRACT_ADDRESS',
    );
    box.env = {};
  });
});

describe('a task ends between sending and the receipt', () => {
  const chain = () => createPublicClient({ transport: http(anvil.rpcUrl), cacheTime: 0 });
  const nonce = () => chain().getTransactionCount({ address: anvil.accounts[0]!.address });
  const kept = () => JSON.parse(readFileSync(box.path('gov-sent.json'), 'utf8')).sent as { hash: string }[];
  let liar: LyingEndpoint;
  beforeAll(async () => {
    liar = await new LyingEndpoint(anvil.rpcUrl).start();
  });
  afterAll(async () => {
    await liar?.stop();
  });

  /** Runs a command that is ended when it asks for the receipt, or when its transaction is sent and the answer is lost. */
  async function interrupted(cut: 'receipt' | 'answer', ...words: string[]): Promise<void> {
    const interrupt = new AbortController();
    let isSent = false;
    liar.lie = ({ method }) => {
      if (method === 'eth_sendRawTransaction') {
        isSent = true;
        if (cut === 'answer') return 'pass-and-drop';
      }
      if (!isSent || !['eth_getTransactionReceipt', 'eth_getTransactionByHash'].includes(method))
        return undefined;
      interrupt.abort(new Error('Interrupted'));
      return 'stall';
    };
    configure({ rpc_url: liar.url });
    box.signal = interrupt.signal;
    const { code, stderr } = await box.run(...words);
    box.signal = new AbortController().signal;
    liar.lie = () => undefined;
    configure({});
    expect(code, stderr).not.toBe(0);
  }

  it.each([
    ['kms create-app', ['kms', 'create-app', '--allow-any-device', '--hash', HASH], 1],
    ['kms add-device', ['kms', 'add-device', '7'.repeat(64)], 1],
    ['kms deploy-impl', ['kms', 'deploy-impl', '--yes'], 1],
  ] as const)('%s, repeated, is sent once, and a third time is another wish', async (_, words, count) => {
    for (const cut of ['receipt', 'answer'] as const) {
      const before = await nonce();
      await interrupted(cut, ...words);
      const [entry] = kept();
      const again = await box.run(...words, '--json');
      expect(again.code, again.stderr).toBe(0);
      expect(JSON.parse(again.stdout).transactionHash).toBe(entry?.hash);
      expect(await nonce()).toBe(before + count);
      expect(kept()).toEqual([]);
    }
    const before = await nonce();
    expect((await box.run(...words)).code).toBe(0);
    expect(await nonce()).toBe(before + count);
  });

  it('a deployment of several contracts goes on where it ended', async () => {
    const words = ['app', 'deploy', '--yes', '--allow-any-device'];
    const before = await nonce();
    let receipts = 0;
    const interrupt = new AbortController();
    liar.lie = ({ method }) => {
      if (method === 'eth_sendRawTransaction') receipts += 1;
      if (receipts < 3 || method !== 'eth_getTransactionReceipt') return undefined;
      interrupt.abort(new Error('Interrupted'));
      return 'stall';
    };
    configure({ rpc_url: liar.url });
    box.signal = interrupt.signal;
    expect((await box.run(...words)).code).not.toBe(0);
    box.signal = new AbortController().signal;
    liar.lie = () => undefined;
    configure({});
    expect(kept()).toHaveLength(3);
    const { code, stderr } = await box.run(...words);
    expect(code, stderr).toBe(0);
    expect(await nonce()).toBe(before + 3);
  });

  it('what another call undid since is sent anew', async () => {
    const image = ['kms', 'add-image', '8'.repeat(64)];
    await interrupted('receipt', ...image);
    expect((await box.run('kms', 'remove-image', '8'.repeat(64))).code).toBe(0);
    expect((await box.run(...image)).code).toBe(0);
    expect((await box.run('info', 'image', '8'.repeat(64))).stdout).toBe('OS image allowed: true\n');
  });

  it('--timeout ends it, --max-cost and a folder that takes no file stop it before anything is signed', async () => {
    const before = await nonce();
    liar.lie = ({ method }) => (method === 'eth_estimateGas' ? 'stall' : undefined);
    configure({ rpc_url: liar.url });
    const slow = await box.run('kms', 'pause', '--timeout', '2');
    liar.lie = () => undefined;
    configure({});
    expect([slow.code, slow.stderr]).toEqual([124, expect.stringContaining('longer than 2 seconds')]);
    const dear = await box.run('kms', 'pause', '--max-cost', '0.0000001');
    expect([dear.code, dear.stderr]).toEqual([1, expect.stringContaining('at most 0.0000001')]);
    const unwritable = await box.run('-C', '/proc', 'kms', 'pause');
    expect([unwritable.code, unwritable.stderr]).toEqual([
      1,
      expect.stringContaining('gov-sent.json cannot be written: nothing was sent'),
    ]);
    expect((await box.run('kms', 'pause', '--timeout', 'soon')).code).not.toBe(0);
    expect(await nonce()).toBe(before);
    expect(existsSync('/proc/gov-sent.json')).toBe(false);
  });

  it('a record whose bytes are another transaction is damaged', async () => {
    await interrupted('receipt', 'kms', 'add-image', '9'.repeat(64));
    const text = readFileSync(box.path('gov-sent.json'), 'utf8');
    const { sent } = JSON.parse(text) as { sent: { data: string }[] };
    const data = sent.at(-1)!.data;
    writeFileSync(box.path('gov-sent.json'), text.replaceAll(data, data.replaceAll('9', 'a')));
    const { code, stderr } = await box.run('kms', 'add-image', 'a'.repeat(64));
    expect([code, stderr]).toEqual([1, expect.stringContaining('gov-sent.json is damaged')]);
    writeFileSync(box.path('gov-sent.json'), text);
  });
});
