/** The application in a real container, talking to the guest agent through the mounted socket with the npm SDK. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Dockerd, importNodeImage, startDockerd } from '../harness/dockerd.ts';
import { repository, runCommand } from '../harness/run-command.ts';
import { type Stack, startStack } from '../harness/stack.ts';

/** Uses every call of the SDK that an application needs, prints one line of JSON, stays up. */
const program = `
import { DstackClient } from '@phala/dstack-sdk';
const client = new DstackClient();
const info = await client.info();
const key = await client.getKey('wallet', 'signing');
const quote = await client.getQuote('hello');
const tls = await client.getTlsKey({ subject: 'app', altNames: ['localhost'], usageRaTls: true });
const signed = await client.sign('ed25519', 'text');
const verified = await client.verify('ed25519', 'text', signed.signature, signed.public_key);
console.log(JSON.stringify({ app_id: info.app_id, key: Buffer.from(key.key).toString('hex'), chain: key.signature_chain.length,
  quote: quote.quote.length, certificates: tls.certificate_chain.length, valid: verified.valid, secret: process.env.SECRET }));
setInterval(() => {}, 60000);
`;

const compose = `services:
  app:
    image: dstack-test/node:1
    command: ["node", "--input-type=module", "-e", ${JSON.stringify(program.replaceAll('$', '$$$$'))}]
    environment:
      SECRET: "\${SECRET}"
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
    stop_grace_period: 1s
`;

const isRoot = process.getuid?.() === 0;

describeWithPrograms(
  'containers',
  ['dockerd', 'docker-compose', 'docker', ...(isRoot ? [] : ['root'])],
  () => {
    let stack: Stack;
    let engine: Dockerd;
    let directory: string;

    beforeAll(async () => {
      directory = mkdtempSync(join(tmpdir(), 'dstack-containers-'));
      engine = await startDockerd();
      importNodeImage(engine.env, 'dstack-test/node:1');
      stack = await startStack();
    }, 180_000);
    afterAll(async () => {
      await stack?.stop();
      await engine?.stop();
      rmSync(directory, { recursive: true, force: true });
    }, 90_000);

    test('sdk-in-container: the npm SDK works unchanged in a container, with a sealed environment', async () => {
      // The same configuration as the demo's, but with an engine.
      const config = JSON.parse(readFileSync(stack.config, 'utf8')) as { local: Record<string, unknown> };
      config.local['engine'] = 'docker';
      config.local['env'] = engine.env;
      const path = join(directory, 'config.json');
      writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
      const cli = (...args: string[]) =>
        runCommand([join(repository, 'dist/bin/dstack-cloud'), '--json', ...args], {
          cwd: directory,
          env: { DSTACK_CLOUD_CONFIG: path, ...engine.env },
          timeoutMs: 120_000,
        });

      expect((await cli('new', 'contained')).code).toBe(0);
      const project = join(directory, 'contained');
      writeFileSync(join(project, 'docker-compose.yaml'), compose);
      writeFileSync(join(project, '.env'), 'SECRET=only for this app\n');
      const deployed = await cli('-C', project, 'deploy');
      expect(deployed.code, deployed.stdout + deployed.stderr).toBe(0);

      const deadline = Date.now() + 30_000;
      let line: string | undefined;
      while (line === undefined && Date.now() < deadline) {
        const logs = await runCommand(
          [join(repository, 'dist/bin/dstack-cloud'), '-C', project, 'logs', '--container', 'app'],
          { env: { DSTACK_CLOUD_CONFIG: path } },
        );
        line = logs.stdout.split('\n').find((text) => text.includes('"app_id"'));
        if (line === undefined) await new Promise((resolve) => setTimeout(resolve, 500));
      }
      const answer = JSON.parse((line ?? '{}').replace(/^[^{]*/, '')) as Record<string, unknown>;
      const { app_id } = JSON.parse(readFileSync(join(project, 'app.json'), 'utf8')) as { app_id: string };
      expect(answer).toMatchObject({
        app_id,
        chain: 2,
        certificates: 3,
        valid: true,
        secret: 'only for this app',
      });
      expect(answer['key']).toMatch(/^[0-9a-f]{64}$/);
      const removed = await cli('-C', project, '--yes', 'remove');
      expect(removed.code, removed.stdout + removed.stderr).toBe(0);
    }, 240_000);
  },
);
