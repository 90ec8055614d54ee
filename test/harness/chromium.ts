/** A headless Chromium of the system, driven by playwright-core; it never downloads a browser of its own. */
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const executablePath = process.env['DSTACK_CHROMIUM'] ?? '/usr/bin/chromium';

/** Whether there is one. */
export const hasChromium: boolean = existsSync(executablePath);

export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}
