/** docs/kms.md: its commands are run as they are written; alerts and dashboard name metrics that exist. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { parse } from 'smol-toml';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkConfig } from './config/check-config.ts';
import type { Listener } from './server/listen.ts';
import type { RunningKms } from './start-kms.ts';
import { createMetrics } from './telemetry/metrics.ts';
import { type Lab, openLab } from './test/lab.ts';

const repository = resolve(fileURLToPath(new URL('../..', import.meta.url)));
const page = readFileSync(join(repository, 'docs/kms.md'), 'utf8');
const blocks = (language: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map((match) => match[1]!);

const ADMIN_TOKEN = 'documented';

describeWithPrograms('documented-kms', ['curl', 'bash'], () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await openLab();
  });
  afterAll(() => lab.close());

  test('documented-kms: every command of the page works, in its order', async () => {
    let up: (listener: Listener) => void = () => undefined;
    const onboarding = new Promise<Listener>((done) => {
      up = done;
    });
    const serving = lab.start({
      keys: false,
      directory: join(lab.directory, 'documented'),
      core: { admin: { enabled: true, port: 0, auth_token: ADMIN_TOKEN } },
      options: { onOnboarding: (listener) => up(listener) },
    });
    const { port } = await onboarding;
    let running: RunningKms | undefined;
    for (const block of blocks('sh')) {
      for (const command of block.trim().split('\n')) {
        if (command.includes('https://') || command.includes(':8001')) running ??= await serving;
        const https = running === undefined ? '' : `127.0.0.1:${running.main.port}`;
        const output = await run(
          command
            .replaceAll('http://localhost:12001', `http://127.0.0.1:${port}`)
            .replaceAll('localhost:12001', https)
            .replaceAll('localhost:8001', `127.0.0.1:${running?.admin?.port}`),
        );
        expect([command, output]).not.toEqual([command, '']);
        expect(output).not.toMatch(/"error"|<html/);
      }
    }
    expect(running).toBeDefined();
  }, 60_000);
});

async function run(command: string): Promise<string> {
  const { stdout } = await promisify(execFile)('bash', ['-e', '-c', command], {
    timeout: 20_000,
    env: { ...process.env, DSTACK_KMS_ADMIN_TOKEN: ADMIN_TOKEN },
  });
  return stdout;
}

test('the configuration on the page is one', () => {
  const [toml] = blocks('toml');
  const config = checkConfig(parse(toml!) as Record<string, unknown>, {});
  expect([config.policy, config.core.auth_api.chain.quorum, config.warnings]).toEqual(['chain', 2, []]);
});

test.each(['kms-alerts.yaml', 'kms-dashboard.json'])('%s names only metrics that exist', async (file) => {
  const metrics = createMetrics({ version: 'x', simulated: false, imageVerified: true });
  const known = (await metrics.registry.getMetricsAsJSON()).map(({ name }) => name);
  const text = readFileSync(join(repository, 'docs/monitoring', file), 'utf8');
  const used = [...text.matchAll(/dstack_kms_[a-z_]+/g)].map(([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  );
  expect(used.length).toBeGreaterThan(8);
  expect([...new Set(used)].filter((name) => !known.includes(name))).toEqual([]);
  if (file.endsWith('.json')) expect(() => JSON.parse(text)).not.toThrow();
});
