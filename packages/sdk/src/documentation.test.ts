/** The examples of docs/sdk.md, as one program against a simulator. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@dstack-cloud/guest-agent';
import { startSimulator } from '@dstack-cloud/simulator';
import { expect, it, vi } from 'vitest';

it('the examples of the page run', async () => {
  const page = readFileSync(new URL('../../../docs/sdk.md', import.meta.url), 'utf8');
  const blocks = [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, block]) => block);
  expect(blocks.length).toBeGreaterThanOrEqual(3);
  const directory = mkdtempSync(join(tmpdir(), 'dstack-sdk-docs-'));
  // Beside this file, so that the package is found as a user's program finds it; the name is not that of a test.
  const program = new URL(`./examples-${process.pid}.tmp.ts`, import.meta.url).pathname;
  const log = createLogger('test');
  log.level = 'silent';
  const simulator = await startSimulator({ directory }, log);
  const printed: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((...words: unknown[]) => void printed.push(words.join(' ')));
  try {
    vi.stubEnv('DSTACK_SIMULATOR_ENDPOINT', simulator.sockets.dstack);
    vi.stubEnv('SIMULATED_ROOT', readFileSync(simulator.rootFile ?? '', 'utf8'));
    vi.stubEnv('COLLATERAL_URL', simulator.collateralUrl ?? '');
    writeFileSync(program, blocks.join('\n'));
    await import(program);
  } finally {
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
    rmSync(program, { force: true });
    await simulator.close();
    rmSync(directory, { recursive: true, force: true });
  }
  expect(printed[0]).toMatch(/^32 0x/);
  expect(printed[1]).toBe('dstack-tdx SIMULATED');
  expect(printed[2]).toMatch(/^hello [0-9a-f]{40}$/);
});
