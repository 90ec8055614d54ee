/**
 * The browser's verifier: the ES module gives the verdicts of Node, check by check, on every form of the fixtures,
 * with WebCrypto instead of node:crypto; and the page shows them.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { encodeAttestation } from '@dstack-cloud/attestation';
import { fromHex, toHex } from '@dstack-cloud/encoding';
import { build } from '@dstack-cloud/scripts/build';
import { collateralServer, createPlatform } from '@dstack-cloud/tee-simulator';
import {
  freshReportData,
  reportToJson,
  type VerifyFileInput,
  verifyFile,
} from '@dstack-cloud/verifier/browser';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasChromium, launchChromium } from '../harness/chromium.ts';
import { type StaticServer, serveDirectory } from '../harness/serve-directory.ts';
import { attest } from '../harness/simulated-workload.ts';
import { mockCases, realCases, type VerifierCase, wrappedCases } from '../harness/verifier-cases.ts';
import { fixture, fixturePath } from '../support/fixtures.ts';

/** Limit of the ES module, compressed. */
const MAX_GZIP_BYTES = 150 * 1024;
/** Cases handed to the browser at once: each carries its collateral and roots as base64. */
const BATCH = 40;

let directory: string;
beforeAll(async () => {
  directory = (await build()).verifierPage;
}, 120_000);

describe('verifier bundle', () => {
  test('is an ES module below 150 KB compressed that imports nothing', () => {
    const text = readFileSync(join(directory, 'dstack-verifier.js'));
    expect(gzipSync(text).length).toBeLessThan(MAX_GZIP_BYTES);
    expect(text.toString()).not.toMatch(/\bimport\s*["'{(*]|\bfrom\s*["'][\w./@-]+["']|["']node:/);
  });

  test('page is one file whose policy allows its own script only', () => {
    const html = readFileSync(join(directory, 'index.html'), 'utf8');
    const policy = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(html)?.[1] ?? '';
    expect(policy).toMatch(/^default-src 'none'; script-src 'sha256-[^ ]+'; style-src 'sha256-[^ ]+';/);
    expect(policy).not.toMatch(/unsafe|\s\*|script-src[^;]* (https?:|data:)/);
    expect(html).not.toMatch(/<(script|link|img|iframe)[^>]+(src|href)="(?!data:,")/);
    expect(html.match(/<script/g)).toHaveLength(1);
  });
});

const hasFixtures = existsSync(fixturePath('mock-evidence/expected.json'));
const missing = [!hasChromium && 'no Chromium', !hasFixtures && 'no fixtures'].filter(Boolean);
const describeInBrowser = missing.length === 0 ? describe : describe.skip;
const skipped = missing.length === 0 ? '' : ` (skipped: ${missing.join(', ')})`;

describeInBrowser(`verifier in Chromium${skipped}`, () => {
  let browser: Browser;
  let server: StaticServer;
  beforeAll(async () => {
    browser = await launchChromium();
    server = await serveDirectory(directory, {
      'empty.html': '<!doctype html><title>Empty</title>',
      'quote.bin': fixture('attestation/tdx/dcapqvl-tdx-quote.bin'),
    });
  }, 60_000);
  afterAll(async () => {
    await browser?.close();
    await server?.close();
  }, 30_000);

  test('module: WebCrypto gives the verdicts of node:crypto, check by check', async () => {
    const page = await browser.newPage();
    await page.goto(`${server.url}/empty.html`);
    const cases = [...realCases(), ...wrappedCases(), ...mockCases()];
    for (let start = 0; start < cases.length; start += BATCH) {
      const batch = cases.slice(start, start + BATCH);
      const ours = await Promise.all(batch.map(({ input }) => verifyHere(input)));
      expect(await verifyThere(page, batch)).toEqual(ours);
    }
    const verdicts = await Promise.all(cases.map(({ input }) => verifyHere(input)));
    const forms = new Set(verdicts.map((verdict) => verdict['form']));
    // The recorded client's image was made up, so that only its last check can fail.
    expect(verdicts.slice(realCases().length, realCases().length + 3).map(({ reason }) => reason)).toEqual([
      expect.stringContaining('Only images with a measurement document'),
      expect.stringContaining('Only images with a measurement document'),
      null,
    ]);
    expect(verdicts.filter((verdict) => verdict['is_valid'] === true).length).toBeGreaterThan(50);
    expect(verdicts.filter((verdict) => verdict['is_valid'] === false).length).toBeGreaterThan(100);
    expect([...forms].sort()).toEqual(
      expect.arrayContaining(['cose', 'nitrotpm-json', 'quote', 'quote-hex', 'ra-tls-certificate']),
    );
    await page.close();
  }, 120_000);

  describe('page', () => {
    const now = '1751624191';
    const quote = fixturePath('attestation/tdx/dcapqvl-tdx-quote.bin');
    const collateral = fixturePath('attestation/tdx/dcapqvl-tdx-quote.collateral.json');
    const mock = (path: string): string => fixturePath(`mock-evidence/set-a/${path}`);

    async function open(): Promise<{ page: Page; problems: string[] }> {
      const page = await browser.newPage();
      const problems: string[] = [];
      page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
      page.on('pageerror', (error) => problems.push(error.message));
      await page.goto(`${server.url}/index.html`);
      return { page, problems };
    }

    async function set(page: Page, id: string, value: string): Promise<void> {
      if (!(await page.locator('.settings[open]').count())) await page.click('.settings summary');
      await page.fill(`#${id}`, value);
    }

    async function drop(page: Page, ...files: string[]): Promise<void> {
      await page.setInputFiles('#evidence', files);
      await done(page);
    }

    async function done(page: Page): Promise<void> {
      await page.getByText(/^Done/).waitFor({ timeout: 20_000 });
    }

    const heading = (page: Page): Promise<string | null> => page.textContent('.report h2');

    test('verifies a dropped quote with dropped collateral, and asks no server', async () => {
      const { page, problems } = await open();
      await set(page, 'now', now);
      const before = server.requests.length;
      await drop(page, quote, collateral);
      expect(await heading(page)).toMatch(/^Genuine, but nothing was compared with it; at .*Z, NOT now$/);
      expect(await page.locator('.simulated').allTextContents()).toEqual([
        expect.stringContaining('NOT NOW'),
      ]);
      expect(await page.locator('.chain .passed').count()).toBeGreaterThan(25);
      expect(await page.textContent('.report')).toContain('UpToDate');
      expect(server.requests.length).toBe(before);
      expect(problems).toEqual([]);
      await page.close();
    });

    test('says what is missing when there is no collateral', async () => {
      const { page } = await open();
      await set(page, 'now', now);
      await drop(page, quote);
      expect(await heading(page)).toMatch(/^Cannot judge/);
      expect(await page.getAttribute('.chain .failed', 'data-check')).toBe('tdx.collateral');
      await page.close();
    });

    test('fetches evidence from a URL, and only after it was asked to', async () => {
      const { page } = await open();
      await set(page, 'now', now);
      await page.setInputFiles('#collateral', collateral);
      const before = server.requests.length;
      await page.fill('#source', `${server.url}/quote.bin`);
      expect(server.requests.length).toBe(before);
      await page.click('button[type=submit]');
      await done(page);
      expect(server.requests.slice(before)).toEqual(['/quote.bin']);
      expect(await heading(page)).toMatch(/^Genuine, but nothing was compared/);
      expect(await page.textContent('.report')).toContain('it may be a recording');
      await page.close();
    });

    test('takes neither time nor collateral from an address: a bundle there is refused, a file of the reader is marked', async () => {
      const documents = [JSON.parse(readFileSync(collateral, 'utf8'))];
      const bundle = JSON.stringify({
        format: 'dstack-evidence-bundle',
        version: 1,
        time: Number(now),
        evidence: readFileSync(quote).toString('base64'),
        chain: [],
        collateral: { documents, snp: [], pck_certificates: [], crls: {} },
      });
      const prover = await serveDirectory(directory, { 'evidence.json': bundle });
      const { page } = await open();
      await page.fill('#source', `${prover.url}/evidence.json`);
      await page.click('button[type=submit]');
      await page.getByRole('alert').waitFor();
      expect(await page.textContent('.problem')).toContain('not taken from an address');
      await page.setInputFiles('#evidence', {
        name: 'bundle.json',
        mimeType: 'application/json',
        buffer: Buffer.from(bundle),
      });
      await done(page);
      expect(await heading(page)).toMatch(/^Genuine, but nothing was compared with it; at .*, NOT now$/);
      await page.close();
      await prover.close();
    });

    test('asks a guest agent for fresh evidence, and a PCCS for its collateral', async () => {
      const platform = createPlatform(new Uint8Array(32).fill(7));
      const pccs = await collateralServer(platform);
      const workload = {
        appId: new Uint8Array(20).fill(1),
        composeHash: new Uint8Array(32).fill(2),
        instanceId: new Uint8Array(20).fill(3),
        image: 'dstack-sim-0.6.0',
      };
      const answer = (nonce: Uint8Array): string =>
        JSON.stringify({
          attestation: toHex(encodeAttestation(attest(platform, workload, freshReportData(nonce)))),
        });
      const agent = await serveDirectory(directory, {
        attestation: (query) => answer(fromHex(query.get('nonce') ?? '')),
      });
      const liar = await serveDirectory(directory, { attestation: () => answer(new Uint8Array(32)) });
      const { page, problems } = await open();
      const ask = async (url: string): Promise<string | null> => {
        await page.fill('#source', url);
        await page.click('button[type=submit]');
        await done(page);
        return heading(page);
      };
      try {
        await set(page, 'pccs', pccs.url);
        await page.setInputFiles('#root-file', {
          name: 'root.pem',
          mimeType: 'application/x-pem-file',
          buffer: Buffer.from(platform.rootPem),
        });
        expect(await ask(agent.url)).toBe('Consistent (SIMULATED), but nothing was compared with it');
        expect(await page.textContent('.report')).toContain('Made for a nonce of this page');
        expect(await page.locator('[data-check="report-data.expected"].passed').count()).toBe(1);
        expect(agent.requests).toEqual([expect.stringMatching(/^\/attestation\?nonce=[0-9a-f]{64}$/)]);
        expect(await ask(`${liar.url}/attestation`)).toBe('Refused');
        expect(await page.getAttribute('.chain .failed', 'data-check')).toBe('report-data.expected');
        await set(page, 'pccs', 'http://127.0.0.1:9');
        expect(await ask(agent.url)).toBe('Cannot judge');
        expect(problems.filter((text) => !text.includes('ERR_'))).toEqual([]);
      } finally {
        await page.close();
        await Promise.all([agent.close(), liar.close(), pccs.close()]);
      }
    });

    test('says SIMULATED under a root that is not the vendor’s, and refuses without it', async () => {
      const { page } = await open();
      await set(page, 'now', '1781524800');
      await page.selectOption('#root-name', 'tdx');
      await page.setInputFiles('#root-file', mock('roots/tdx-root-ca.pem'));
      await drop(page, mock('evidence/tdx-good.v0.bin'), mock('collateral/tdx-base.json'));
      expect(await heading(page)).toMatch(/^Consistent \(SIMULATED\).*NOT now$/);
      expect(await page.locator('.simulated').allTextContents()).toEqual([
        expect.stringContaining('NOT NOW'),
        expect.stringContaining('SIMULATED'),
      ]);
      await page.setInputFiles('#root-file', []);
      await drop(page, mock('evidence/tdx-good.v0.bin'), mock('collateral/tdx-base.json'));
      expect(await heading(page)).toMatch(/^Refused/);
      expect(await page.getAttribute('.chain .failed', 'data-check')).toBe('tdx.pck-path');
      await page.close();
    });

    test('shows the link that broke, with what was expected and found', async () => {
      const { page } = await open();
      await set(page, 'now', '1781524800');
      await page.selectOption('#root-name', 'tdx');
      await page.setInputFiles('#root-file', mock('roots/tdx-root-ca.pem'));
      await drop(page, mock('evidence/tdx-bad-rtmr3-payload.v0.bin'), mock('collateral/tdx-base.json'));
      expect(await heading(page)).toMatch(/^Refused/);
      expect(await page.getAttribute('.chain .failed', 'data-check')).toBe('tdx.rtmr3');
      expect(await page.textContent('.chain .failed')).toMatch(/expected[0-9a-f]{96}found[0-9a-f]{96}/);
      await page.close();
    });

    test('holds genuine evidence against what the reader expects', async () => {
      const { page } = await open();
      await set(page, 'now', now);
      await set(page, 'expect', `mrtd=${'00'.repeat(48)}`);
      await drop(page, quote, collateral);
      expect(await heading(page)).toMatch(/^Genuine, but not accepted; at /);
      const wanted = toHex(readFileSync(quote).subarray(48 + 136, 48 + 136 + 48));
      await set(page, 'expect', `mrtd=0x${wanted.toUpperCase()}`);
      await drop(page, quote, collateral);
      expect(await heading(page)).toMatch(/^Genuine, and what was expected; at /);
      for (const wrong of ['mrtd', 'mrtd=', 'mrtd=00', 'mr_td=00', `mrtd=${wanted}\nmrtd=${wanted}`]) {
        await set(page, 'expect', wrong);
        await page.setInputFiles('#evidence', [quote, collateral]);
        await page.getByRole('alert').waitFor();
        expect(await page.textContent('.problem code')).toBe('expectation');
      }
      await set(page, 'expect', '');
      await set(page, 'report-data', '00');
      await drop(page, quote, collateral);
      expect(await heading(page)).toMatch(/^Refused/);
      await page.close();
    });

    test('takes what is no evidence with an explanation, and shows hostile text as text', async () => {
      const { page, problems } = await open();
      await page.fill('#source', '<img src=x onerror=alert(1)>');
      await page.click('button[type=submit]');
      await done(page);
      expect(await heading(page)).toMatch(/^Refused/);
      expect(await page.locator('#reports img').count()).toBe(0);
      const hostile = '\u202egnp.\u200b\u001b[2J';
      await page.setInputFiles('#evidence', {
        name: hostile,
        mimeType: 'application/json',
        buffer: Buffer.from(
          JSON.stringify({ pcrs: { sha256: { [hostile]: '' } }, attestation: { tpm: { ecc_p256: {} } } }),
        ),
      });
      await done(page);
      const text = (await page.textContent('#reports')) ?? '';
      expect(text).toContain('\\u{202e}gnp.\\u{200b}');
      expect(text).not.toMatch(/[\p{Cf}\p{Zl}]/u);
      await set(page, 'now', 'tomorrow');
      await page.click('button[type=submit]');
      await page.getByRole('alert').waitFor();
      expect(await page.textContent('.problem')).toContain('tomorrow is no time');
      expect(problems).toEqual([]);
      await page.close();
    });

    test('works from a disk, and with the keyboard', async () => {
      const page = await browser.newPage();
      await page.goto(`file://${join(directory, 'index.html')}`);
      await page.keyboard.press('Tab');
      expect(await page.evaluate('document.activeElement.id')).toBe('evidence');
      await page.setInputFiles('#evidence', fixturePath('attestation/nitro/evervault-valid.cose'));
      await done(page);
      // Years after it was made.
      expect(await page.getAttribute('.chain .failed', 'data-check')).toBe('nitro.freshness');
      expect(await page.evaluate('document.activeElement.tagName')).toBe('H2');
      await page.close();
    });
  });
});

async function verifyHere(input: VerifyFileInput): Promise<Record<string, unknown>> {
  return reportToJson((await verifyFile(input)).report, toHex);
}

/** The same in the page, with its own module. Bytes cross as base64, by name of their class. */
async function verifyThere(page: Page, cases: readonly VerifierCase[]): Promise<unknown[]> {
  const text = JSON.stringify(
    cases.map(({ input }) => input),
    (_, value: unknown) =>
      value instanceof Uint8Array ? { base64: Buffer.from(value).toString('base64') } : value,
  );
  const script = `(async () => {
    const { verifyFile, reportToJson } = await import('/dstack-verifier.js');
    const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const hex = (value) => Array.from(value, (byte) => byte.toString(16).padStart(2, '0')).join('');
    const inputs = JSON.parse(${JSON.stringify(text)}, (_, value) =>
      value && typeof value.base64 === 'string' ? bytes(value.base64) : value);
    const reports = [];
    for (const input of inputs) reports.push(reportToJson((await verifyFile(input)).report, hex));
    return reports;
  })()`;
  return (await page.evaluate(script)) as unknown[];
}
