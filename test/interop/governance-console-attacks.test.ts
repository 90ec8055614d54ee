/** The governance page in Chromium under attack: hostile names, a thousand operations, endpoints that stall and lie. */
import { createServer, request as httpRequest, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type RunningConsole, startConsole } from '@dstack-cloud/console';
import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployCode,
  deployKms,
  dstackKmsAbi,
  loadArtifact,
  startAnvil,
  transact,
} from '@dstack-cloud/contracts';
import { createSafe, safeArtifact, safeTx, safeTxHash, timelockAbi } from '@dstack-cloud/governance';
import { configSchema } from '@dstack-cloud/watcher';
import type { Browser, Page } from 'playwright-core';
import { type Abi, type Address, encodeFunctionData, type Hex, zeroAddress, zeroHash } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasChromium, launchChromium } from '../harness/chromium.ts';

const describeInBrowser = hasChromium ? describe : describe.skip;
const HOSTILE = `"><img src=x onerror=alert(1)><script>alert(2)</script>\u202e\u2066\u0007${'W'.repeat(10_000)}`;
const OPERATIONS = 1_000;
const kmsAbi = dstackKmsAbi as Abi;
const numbered = (n: number): Hex => `0x${n.toString(16).padStart(64, '0')}`;
const call = (functionName: string, ...args: unknown[]): Hex =>
  encodeFunctionData({ abi: kmsAbi, functionName, args });

/** How the endpoint between console and chain behaves. */
type Mood = 'well' | 'hang' | 'garbage' | 'no-logs' | 'endless';

describeInBrowser(`governance page under attack${hasChromium ? '' : ' (skipped: no Chromium)'}`, () => {
  let anvil: Anvil;
  let owner: ChainClient;
  let kms: Address;
  let safe: Address;
  let mood: Mood = 'well';
  let endpoint: Server;
  let service: Server;
  let results: object[] = [];
  let served: RunningConsole;
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];
  const url = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  async function rpc(calls: readonly { method: string; params: unknown[] }[]): Promise<void> {
    const body = JSON.stringify(calls.map((one, id) => ({ jsonrpc: '2.0', id, ...one })));
    const headers = { 'content-type': 'application/json' };
    const answers = (await (await fetch(anvil.rpcUrl, { method: 'POST', headers, body })).json()) as object[];
    expect(answers.filter((answer) => 'error' in answer)).toEqual([]);
  }

  function answer(body: string, response: ServerResponse): void {
    if (mood === 'hang') return;
    if (mood === 'garbage') return void response.end('{"jsonrpc":"2.0","id":1,"result":"0x');
    if (mood === 'endless') {
      let left = 512;
      const more = (): void => {
        while (left > 0 && !response.destroyed) {
          left -= 1;
          if (!response.write(' '.repeat(131_072))) return void response.once('drain', more);
        }
        response.end();
      };
      more();
      return;
    }
    const outgoing = httpRequest(
      anvil.rpcUrl,
      { method: 'POST', headers: { 'content-type': 'application/json' } },
      (incoming) => {
        let text = '';
        incoming.on('data', (chunk: Buffer) => (text += chunk.toString()));
        incoming.on('end', () => {
          if (mood !== 'no-logs') return void response.end(text);
          const strip = (one: { result?: unknown }): object => ({
            ...one,
            ...(Array.isArray(one.result) && { result: [] }),
          });
          const parsed = JSON.parse(text) as { result?: unknown } | { result?: unknown }[];
          response.end(JSON.stringify(Array.isArray(parsed) ? parsed.map(strip) : strip(parsed)));
        });
      },
    );
    outgoing.on('error', () => response.destroy());
    outgoing.end(body);
  }

  beforeAll(async () => {
    await buildContracts();
    anvil = await startAnvil();
    owner = await connectChain({
      rpcUrl: anvil.rpcUrl,
      privateKey: anvil.accounts[0]!.privateKey,
      pollingIntervalMs: 10,
    });
    kms = (await deployKms({ client: owner })).kms;
    const { address } = owner.account;
    const write = (name: string, ...args: unknown[]) => transact(owner, kms, kmsAbi, name, args);
    await write('setGatewayAppId', HOSTILE);
    await write('denyAdvisory', HOSTILE);
    await write('setGuardian', address, true);
    const make = async (name: Parameters<typeof safeArtifact>[0]): Promise<Address> => {
      const { abi, bytecode } = safeArtifact(name);
      return (await deployCode(owner, abi, bytecode)).address;
    };
    const made = createSafe({
      factory: await make('SafeProxyFactory'),
      singleton: await make('SafeL2'),
      fallbackHandler: await make('CompatibilityFallbackHandler'),
      proxyCode: safeArtifact('SafeProxy').bytecode,
      ...{ owners: anvil.accounts.slice(0, 3).map((one) => one.address), threshold: 2, saltNonce: 0n },
    });
    safe = made.address;
    const { to, data } = made.call;
    const sent = await owner.wallet.sendTransaction({ to, data, account: owner.account, chain: null });
    await owner.public.waitForTransactionReceipt({ hash: sent });
    const { abi, bytecode } = loadArtifact('DstackTimelock');
    const roles = [[address], [zeroAddress], zeroAddress];
    const timelock = (await deployCode(owner, abi, bytecode, [7_200n, ...roles, 0n])).address;
    await write('transferOwnership', timelock);
    await rpc([{ method: 'evm_setAutomine', params: [false] }]);
    for (let from = 0; from < OPERATIONS; from += 100) {
      const some = Array.from({ length: 100 }, (_, index) => {
        const payload = call('addOsImageHash', numbered(from + index + 1));
        const args = [kms, 0n, payload, zeroHash, numbered(from + index), 7_200n];
        const scheduled = encodeFunctionData({ abi: timelockAbi as Abi, functionName: 'schedule', args });
        const from_ = { from: address, to: timelock, gas: '0x30000', data: scheduled };
        return { method: 'eth_sendTransaction', params: [from_] };
      });
      await rpc([...some, { method: 'evm_mine', params: [] }]);
    }
    await rpc([{ method: 'evm_setAutomine', params: [true] }]);
    const tx = safeTx({ to: kms, value: 0n, data: call('denyAdvisory', HOSTILE) }, 0n);
    const hash = safeTxHash(31_337, safe, tx);
    const texts = Object.fromEntries(
      Object.entries(tx).map(([name, value]) => [name, typeof value === 'bigint' ? value.toString() : value]),
    );
    const confirmations = [{ owner: address, signature: await owner.account.sign!({ hash }) }];
    results = [{ ...texts, safe, safeTxHash: hash, isExecuted: false, confirmations }];

    endpoint = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => answer(body, response));
    });
    service = createServer((_, response) => response.end(JSON.stringify({ results })));
    for (const server of [endpoint, service])
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    served = await startConsole({
      chain: configSchema.parse({
        rpc_urls: [url(endpoint)],
        ...{ kms_contract: kms, safes: [safe], poll_seconds: 0.5, rpc_timeout_seconds: 2 },
        safe_service: { url: `${url(service)}/api`, poll_seconds: 1 },
      }),
      health: async () => [
        { kind: 'app', name: HOSTILE, url: `https://${HOSTILE}`, ok: false, text: HOSTILE },
      ],
      port: 0,
    });
    browser = await launchChromium();
    page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
    page.on('pageerror', (error) => problems.push(error.message));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    page.on('dialog', (dialog) => {
      problems.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on('request', (request) => {
      if (!request.url().startsWith(served.url)) problems.push(`request to ${request.url()}`);
    });
    await page.goto(served.url, { timeout: 120_000 });
    await page.locator('body[data-ready=yes]').waitFor({ timeout: 60_000 });
  }, 300_000);
  afterAll(async () => {
    await browser?.close();
    for (const server of [endpoint, service]) server?.closeAllConnections();
    await served?.stop();
    for (const server of [endpoint, service]) server?.close();
    await anvil?.stop();
  }, 60_000);

  /** Refreshes until a part of the page shows it. */
  async function seen(part: string, text: string): Promise<void> {
    await expect
      .poll(
        async () => {
          await page.getByRole('button', { name: 'Refresh' }).click();
          return (await page.locator(part).textContent({ timeout: 5_000 })) ?? '';
        },
        { timeout: 90_000, interval: 300 },
      )
      .toContain(text);
  }

  test('a thousand operations are a page of ten, and each answer is small', async () => {
    await seen('#operations', `(${OPERATIONS})`);
    expect(await page.locator('#operations tbody tr').count()).toBe(10);
    expect(await page.locator('#operations .pager').textContent()).toContain(`Page 1 of ${OPERATIONS / 10}`);
    for (const path of ['/api/overview', '/api/list?name=operations&page=77', '/api/list?name=changes']) {
      const answered = await fetch(`${served.url}${path}`);
      expect(answered.headers.get('x-content-type-options')).toBe('nosniff');
      expect((await answered.text()).length).toBeLessThan(100_000);
    }
    const elements = await page.evaluate('document.querySelectorAll("*").length');
    expect(elements).toBeLessThan(2_000);
  }, 60_000);

  test('hostile names are text, bounded, on a page that is no wider for them', async () => {
    const text = (await page.locator('body').textContent()) ?? '';
    expect(text).toContain('<img src=x onerror=alert(1)>');
    expect(text).toContain('\\u{202e}\\u{2066}\\u{7}');
    for (const unseen of ['\u202e', '\u2066', '\u0007']) expect(text).not.toContain(unseen);
    expect(await page.locator('img, main script').count()).toBe(0);
    expect(text.length).toBeLessThan(100_000);
    for (const width of [1_280, 390]) {
      await page.setViewportSize({ width, height: 900 });
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
    }
    await page.setViewportSize({ width: 1_280, height: 900 });
    expect(problems).toEqual([]);
  }, 60_000);

  test('what waits at the transaction service is marked as what the service says', async () => {
    await seen('#transactions', '(1)');
    const text = (await page.locator('#transactions').textContent()) ?? '';
    expect(text).toMatch(/signing.*deny platforms with advisory .*as the service says: not on the chain/s);
    expect(text).toMatch(/1 of 2 needed.*signed; checked here/s);
    expect(text).toContain(owner.account.address.toLowerCase());
    expect(await page.locator('#service').textContent()).toContain(`At ${new URL(url(service)).host}.`);
  }, 60_000);

  test.each<Mood>(['hang', 'garbage', 'endless'])(
    'endpoints that %s are said, and what was known stays',
    async (how) => {
      mood = how;
      await seen('#problem', 'Not up to date');
      expect(await page.locator('#operations .pager').textContent()).toContain(`of ${OPERATIONS / 10}`);
      mood = 'well';
      await expect
        .poll(
          async () => {
            await page.getByRole('button', { name: 'Refresh' }).click();
            return await page.locator('#problem').isHidden();
          },
          { timeout: 90_000, interval: 300 },
        )
        .toBe(true);
      expect(problems).toEqual([]);
    },
    200_000,
  );

  test('an endpoint that leaves a revocation out is found out', async () => {
    mood = 'no-logs';
    await transact(owner, kms, kmsAbi, 'denyAdvisory', ['INTEL-SA-HIDDEN']);
    await seen('#problem', 'events-missing');
    mood = 'well';
    await seen('#state', 'INTEL-SA-HIDDEN');
    expect(problems).toEqual([]);
  }, 200_000);

  test('a page whose console is gone says so, and does not pretend to be up to date', async () => {
    await served.stop();
    await page.getByRole('button', { name: 'Refresh' }).click();
    await page.locator('#problem').waitFor({ state: 'visible', timeout: 30_000 });
    expect(await page.locator('#problem').textContent()).not.toBe('');
  }, 60_000);
});
