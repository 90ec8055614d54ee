/** The console page of dstack-vmm in a browser: machines are made, seen, changed and removed by it; foreign text does nothing. */
import { join } from 'node:path';
import { imageTar, RegistryLab } from '@dstack-cloud/vmm/registry-lab';
import { ServiceLab, tinyMachine } from '@dstack-cloud/vmm/service-lab';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasChromium, launchChromium } from '../harness/chromium.ts';
import { findProgram } from '../support/requires.ts';

const TOKEN = 'token-of-the-console-test';
const missing = [!hasChromium && 'no Chromium', !findProgram('qemu-system-x86_64') && 'no QEMU'].filter(
  Boolean,
);
const describeInBrowser = missing.length === 0 ? describe : describe.skip;

const compose = (name: string): string =>
  JSON.stringify({
    ...{ manifest_version: 2, name, runner: 'bash', bash_script: 'true' },
    ...{ key_provider: 'none', storage_fs: 'ext4' },
  });

describeInBrowser(
  `console in Chromium${missing.length === 0 ? '' : ` (skipped: ${missing.join(', ')})`}`,
  () => {
    let lab: ServiceLab;
    let registry: RegistryLab;
    let browser: Browser;
    let page: Page;
    const problems: string[] = [];
    /** What the page asked, and what it is answered. */
    const asked: string[] = [];
    let answers = true;
    beforeAll(async () => {
      registry = new RegistryLab();
      await registry.start();
      lab = new ServiceLab(
        `[cvm.port_mapping]\nenabled = true\n[image]\nregistry = "${registry.address}"`,
        TOKEN,
      );
      const image = imageTar(join(lab.imagePath, 'tiny-sleeps'));
      registry.publish('good', [image]);
      registry.publish('bad', [image], (layer) => ({
        ...layer,
        digest: registry.add(Buffer.from('other')),
        size: 5,
      }));
      for (const [digest, bytes] of registry.blobs)
        if (bytes.length === 5) registry.blobs.set(digest, Buffer.from('wrong'));
      [browser] = await Promise.all([launchChromium(), lab.start()]);
      const context = await browser.newContext({
        httpCredentials: { username: 'operator', password: TOKEN },
      });
      page = await context.newPage();
      page.on('pageerror', (error) => problems.push(error.message));
      page.on('console', (message) => {
        if (message.type() === 'error' && /Content Security Policy/.test(message.text()))
          problems.push(message.text());
      });
      page.on('dialog', (dialog) => {
        asked.push(dialog.message());
        void (answers ? dialog.accept() : dialog.dismiss());
      });
      await page.goto(lab.url);
      await page.getByText('Ready').waitFor();
    }, 120_000);
    afterAll(async () => {
      await browser?.close();
      await lab?.cleanUp();
      await registry?.stop();
    }, 60_000);

    test('makes, shows, changes and removes a machine', async () => {
      await page.getByRole('button', { name: 'New machine' }).click();
      await page.locator('[name=name]').fill('from the page');
      await page.locator('[name=image]').selectOption('tiny-sleeps');
      await page.locator('[name=vcpu]').fill('1');
      await page.locator('[name=memory]').fill('256');
      await page.locator('[name=disk_size]').fill('1');
      await page.locator('[name=compose_file]').fill(compose('<img src=x onerror=alert(1)>'));
      await page.locator('[name=ports]').fill('tcp:18080:80');
      await page.locator('[name=no_tee]').check();
      await page.locator('[name=stopped]').check();
      await page.getByText(/Compose hash: [0-9a-f]{64}/).waitFor();
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await page.getByText(/^Created /).waitFor();
      const details = page.locator('.details');
      await details.getByText('1 vCPU, 256 MB, 1 GB').waitFor();
      await details.getByText('tcp 127.0.0.1:18080 to 80').waitFor();
      await details.getByRole('button', { name: 'Serial log' }).click();

      await page.getByRole('button', { name: 'Update' }).click();
      await page.getByRole('heading', { name: 'Update from the page' }).waitFor();
      expect(await page.locator('[name=name]').isDisabled()).toBe(true);
      await page.locator('[name=vcpu]').fill('2');
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await details.getByText('2 vCPU, 256 MB, 1 GB').waitFor();

      await page.locator('#search').fill('nothing like it');
      await page.getByText('No machine matches.').waitFor();
      await page.locator('#search').fill('FROM');
      await page.getByText('1 machine', { exact: false }).waitFor();
      answers = false;
      await page.getByRole('button', { name: 'Remove' }).click();
      await expect.poll(() => asked.at(-1)).toMatch(/^Remove from the page\?/);
      answers = true;
      await page.getByText('1 machine', { exact: false }).waitFor();
      await page.getByRole('button', { name: 'Remove' }).click();
      await page.getByText('No machine matches.').waitFor();
      expect(problems).toEqual([]);
    }, 60_000);

    test('asks before it shuts a machine down or ends it', async () => {
      await page.locator('#search').fill('');
      const made = await page.evaluate(
        async (body) => {
          const headers = { 'Content-Type': 'application/json' };
          return (await fetch('/prpc/CreateVm?json', { method: 'POST', headers, body })).status;
        },
        JSON.stringify(tinyMachine({ name: 'asked' })),
      );
      expect(made).toBe(200);
      await page.getByRole('button', { name: 'Refresh' }).click();
      answers = false;
      for (const [button, question] of [
        ['Shut down', /^Shut asked down\? Its application ends/],
        ['Kill', /^End asked at once\?/],
      ] as const) {
        await page.getByRole('button', { name: button }).click();
        await expect.poll(() => asked.at(-1)).toMatch(question);
      }
      await page.getByText('running', { exact: true }).waitFor();
      answers = true;
      await page.getByRole('button', { name: 'Kill' }).click();
      await page.getByText('stopped', { exact: true }).waitFor();
    }, 60_000);

    test('pulls an image of the registry, shows why another cannot be, and deletes it', async () => {
      const button = page.getByRole('button', { name: 'Images' });
      await button.click();
      const row = (name: string) => page.locator(`[data-image="${name}"]`);
      await row('tiny-sleeps').getByText('on this host').waitFor();
      await row('good').getByText('in the registry').waitFor();
      await row('good').getByRole('button', { name: 'Pull' }).click();
      await row('good').getByText('on this host').waitFor();
      await row('bad').getByRole('button', { name: 'Pull' }).click();
      await row('bad')
        .getByText(/blob digest mismatch/)
        .waitFor();
      answers = false;
      await row('good').getByRole('button', { name: 'Delete' }).click();
      await expect.poll(() => asked.at(-1)).toMatch(/^Delete the image good\?/);
      answers = true;
      await row('good').getByRole('button', { name: 'Delete' }).click();
      await row('good').getByText('in the registry').waitFor();
      await button.click();
      expect(await page.locator('#images').isHidden()).toBe(true);
      expect(problems).toEqual([]);
    }, 60_000);

    test('says why something is refused', async () => {
      await page.getByRole('button', { name: 'New machine' }).click();
      await page.locator('[name=name]').fill('../x');
      await page.locator('[name=compose_file]').fill(compose('web'));
      await page.getByRole('button', { name: 'Save', exact: true }).click();
      await page
        .getByRole('alert')
        .getByText(/name cannot be used/)
        .waitFor();
      await page.getByRole('button', { name: 'Cancel' }).click();
      expect(problems).toEqual([]);
    }, 60_000);
  },
);
