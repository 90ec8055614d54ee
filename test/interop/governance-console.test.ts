/** The governance page in Chromium, on a real chain with thousands of events: what it shows, and what it lets nobody do. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type RunningConsole, startConsole } from '@dstack-cloud/console';
import {
  type Anvil,
  buildContracts,
  type ChainClient,
  connectChain,
  deployApp,
  deployCode,
  deployKms,
  dstackKmsAbi,
  loadArtifact,
  startAnvil,
  transact,
} from '@dstack-cloud/contracts';
import { configSchema } from '@dstack-cloud/watcher';
import type { Browser, Page } from 'playwright-core';
import { type Abi, type Address, encodeFunctionData, type Hex, parseAbi, zeroAddress, zeroHash } from 'viem';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasChromium, launchChromium } from '../harness/chromium.ts';

const describeInBrowser = hasChromium ? describe : describe.skip;
const HOSTILE = '<img src=x onerror=alert(1)>\u202egnp\u001b[2J';
const IMAGES = 1_200;
const timelockAbi = parseAbi([
  'function schedule(address target, uint256 value, bytes data, bytes32 predecessor, bytes32 salt, uint256 delay)',
]) as Abi;
const kmsAbi = dstackKmsAbi as Abi;
const numbered = (n: number): Hex => `0x${n.toString(16).padStart(64, '0')}`;

describeInBrowser(`governance page in Chromium${hasChromium ? '' : ' (skipped: no Chromium)'}`, () => {
  let anvil: Anvil;
  let owner: ChainClient;
  let kms: Address;
  let app: Address;
  let timelock: Address;
  let served: RunningConsole;
  let browser: Browser;
  const problems: string[] = [];

  beforeAll(async () => {
    await buildContracts();
    anvil = await startAnvil();
    owner = await connectChain({ rpcUrl: anvil.rpcUrl, privateKey: anvil.accounts[0]!.privateKey });
    kms = (await deployKms({ client: owner })).kms;
    app = (await deployApp({ client: owner, kms, composeHash: numbered(7) })).appId;
    const write = (name: string, ...args: unknown[]) => transact(owner, kms, kmsAbi, name, args);
    for (let from = 1; from <= IMAGES; from += 200) {
      const calls = Array.from({ length: 200 }, (_, n) =>
        encodeFunctionData({ abi: kmsAbi, functionName: 'addOsImageHash', args: [numbered(from + n)] }),
      );
      await write('multicall', calls);
    }
    await write('setGatewayAppId', HOSTILE);
    await write('denyAdvisory', HOSTILE);
    const { abi, bytecode } = loadArtifact('DstackTimelock');
    const roles = [[owner.account.address], [zeroAddress], zeroAddress];
    timelock = (await deployCode(owner, abi, bytecode, [7_200n, ...roles, 0n])).address;
    await write('transferOwnership', timelock);
    const upgrade = encodeFunctionData({ abi: kmsAbi, functionName: 'setGatewayAppId', args: [HOSTILE] });
    await transact(owner, timelock, timelockAbi, 'schedule', [kms, 0n, upgrade, zeroHash, zeroHash, 7_200n]);
    served = await startConsole({
      chain: configSchema.parse({ rpc_urls: [anvil.rpcUrl], kms_contract: kms, poll_seconds: 0.5 }),
      health: async () => [
        { kind: 'kms', name: 'kms.example', url: 'https://kms.example', ok: true, text: 'answers' },
        { kind: 'app', name: HOSTILE, url: '', ok: false, text: 'stopped' },
      ],
      port: 0,
    });
    browser = await launchChromium();
  }, 240_000);
  afterAll(async () => {
    await browser?.close();
    await served?.stop();
    await anvil?.stop();
  }, 60_000);

  async function open(dark = false): Promise<Page> {
    const context = await browser.newContext({
      colorScheme: dark ? 'dark' : 'light',
      viewport: { width: 1280, height: 900 },
    });
    const page = await context.newPage();
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
    // The chain may not be read yet when the page comes first.
    await page.getByRole('heading', { name: 'Allowed OS images' }).waitFor();
    await expect
      .poll(
        async () => {
          await page.getByRole('button', { name: 'Refresh' }).click();
          return await page
            .locator('#images caption')
            .textContent({ timeout: 5_000 })
            .catch(() => '');
        },
        { timeout: 60_000, interval: 500 },
      )
      .toContain(`(${IMAGES})`);
    return page;
  }

  async function shot(page: Page, name: string): Promise<void> {
    const folder = process.env['DSTACK_SCREENSHOTS'];
    if (folder === undefined) return;
    mkdirSync(folder, { recursive: true });
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
  }

  test('shows who governs, what waits and for how long, what is allowed, and who changed what', async () => {
    const page = await open();
    const state = page.locator('#state');
    expect(await state.textContent()).toContain(`Owner${timelock.toLowerCase()} Timelock`);
    expect(await state.textContent()).toContain('Delay2 hours');
    // All that matters stands on the first screen, above everything that takes scrolling.
    const summary = page.locator('#summary');
    const box = await summary.boundingBox();
    expect((box?.y ?? 9_999) + (box?.height ?? 9_999)).toBeLessThan(900);
    const words = (await summary.textContent()) ?? '';
    expect(words).toContain('PolicyActive');
    expect(words).toContain('Health1 of 2 down');
    expect(words).toMatch(/Pending operations1In 1 hour.*as the gateway/s);
    expect(words).toMatch(/Last change.* agoBy 0x[0-9a-f]{6}….{4}: /s);
    expect(words).toContain(`Allowed OS images${IMAGES}`);
    expect(words).toContain('Apps1');
    const operations = (await page.locator('#operations').textContent()) ?? '';
    expect(operations).toMatch(/waiting.*as the gateway, on DstackKms.*in 1 hour/s);
    expect(await page.locator('#apps').textContent()).toContain(app.toLowerCase());
    expect(await page.locator('#apps').textContent()).toContain(numbered(7));
    const changes = (await page.locator('#changes').textContent()) ?? '';
    expect(changes).toContain(`The owner is ${timelock.toLowerCase()} now`);
    expect(changes).toContain(owner.account.address.toLowerCase());
    expect(await page.locator('#health').textContent()).toMatch(/KMS.*kms\.example.*answers/s);
    await shot(page, 'light');
    await page.setViewportSize({ width: 390, height: 800 });
    const wider = await page.evaluate(
      'document.documentElement.scrollWidth > document.documentElement.clientWidth',
    );
    expect(wider).toBe(false);
    await shot(page, 'phone');
    await page.context().close();
    const dark = await open(true);
    expect(await dark.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(16, 21, 27)');
    await shot(dark, 'dark');
    await dark.context().close();
    expect(problems).toEqual([]);
  }, 180_000);

  test('thousands of entries come in pages, by mouse and by keyboard', async () => {
    const page = await open();
    const images = page.locator('#images');
    expect(await images.locator('tbody tr').count()).toBe(10);
    expect(await images.locator('.pager').textContent()).toContain(`Page 1 of ${IMAGES / 10}`);
    const next = images.getByRole('button', { name: /^Next page of/ });
    await next.focus();
    await page.keyboard.press('Enter');
    await images.getByText(`Page 2 of ${IMAGES / 10}`).waitFor();
    // The focus stays where it was: the button was made anew.
    expect(await page.evaluate('document.activeElement.dataset.turn')).toBe('1');
    expect(await images.getByRole('button', { name: /^Previous page of/ }).isDisabled()).toBe(false);
    const last = await (await fetch(`${served.url}/api/list?name=changes&page=999999`)).json();
    expect(last).toMatchObject({ page: (last as { pages: number }).pages });
    await page.context().close();
    expect(problems).toEqual([]);
  }, 120_000);

  test('what strangers wrote is text, with what cannot be seen made visible', async () => {
    const page = await open();
    const text = (await page.locator('body').textContent()) ?? '';
    expect(text).toContain('<img src=x onerror=alert(1)>');
    expect(text).toContain('\\u{202e}');
    for (const unseen of ['\u202e', '\u001b']) expect(text).not.toContain(unseen);
    expect(await page.locator('img').count()).toBe(0);
    await page.context().close();
    expect(problems).toEqual([]);
  }, 120_000);

  test('the policy lets no other script run, and only this machine is answered', async () => {
    const page = await open();
    const answer = await fetch(served.url);
    const policy = answer.headers.get('content-security-policy') ?? '';
    for (const part of [
      "default-src 'none'",
      "script-src 'self'",
      "frame-ancestors 'none'",
      "trusted-types 'none'",
    ])
      expect(policy).toContain(part);
    expect(policy).not.toContain('unsafe');
    expect(await answer.text()).not.toMatch(/<script(?![^>]* src=)|<style|\son\w+=/);
    const ran = await page.evaluate(`(() => {
      const script = document.createElement('script');
      try { script.textContent = 'window.ran = 1'; } catch {}
      document.body.append(script);
      try { document.body.insertAdjacentHTML('beforeend', '<p id=made></p>'); } catch {}
      return [window.ran ?? 0, document.getElementById('made') !== null];
    })()`);
    expect(ran).toEqual([0, false]);
    await page.context().close();
    const status = async (path: string, init?: RequestInit): Promise<number> =>
      (await fetch(`${served.url}${path}`, init)).status;
    expect(await status('/api/list?name=__proto__')).toBe(400);
    expect(await status('/api/list?name=images&page=-1')).toBe(400);
    expect(await status('/api/overview', { method: 'POST', body: '{}' })).not.toBe(200);
    expect(await status('/api/overview', { headers: { origin: 'https://evil.example' } })).toBe(403);
    expect(await status('/../../etc/passwd')).toBe(404);
  }, 120_000);

  test('of a chain that does not answer, the page says that nothing was read, and not that the policy is active', async () => {
    const unread = await startConsole({
      chain: configSchema.parse({ rpc_urls: ['http://127.0.0.1:1'], kms_contract: kms, chain_id: 31_337 }),
      health: async () => [],
      port: 0,
    });
    try {
      const page = await (await browser.newContext()).newPage();
      await page.goto(unread.url);
      await page.locator('body[data-ready=yes]').waitFor({ timeout: 60_000 });
      const text = (await page.locator('main').textContent()) ?? '';
      expect(text).toContain('PolicyUnknownNothing was read from the chain yet');
      expect(text).toContain('Registered apps, the newest first: not known yet.');
      expect(text).not.toMatch(/Active|allows what is listed|0x0{8}/);
      await page.context().close();
    } finally {
      await unread.stop();
    }
  }, 120_000);
});
