/** The program as it is started, with a real authority and a real zone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { ACME_PROGRAMS, type AcmeLab, startAcmeLab } from '@dstack-cloud/test/acme-lab';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { certificateFor } from './test/lab.ts';

const TAG = `da${process.pid}`;
const PORT = 20_000 + (process.pid % 12_000) + 20;
const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

describeWithPrograms(
  'dstack-gateway with certificates by ACME',
  [...ACME_PROGRAMS, 'wg', 'wireguard-go', 'ip'],
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'gateway-acme-'));
    const running: ChildProcess[] = [];
    let lab: AcmeLab;

    beforeAll(async () => {
      lab = await startAcmeLab();
      const { certChain, key } = certificateFor('gateway.test');
      writeFileSync(join(folder, 'rpc.pem'), certChain);
      writeFileSync(join(folder, 'kms.pem'), certChain);
      writeFileSync(join(folder, 'rpc.key'), key, { mode: 0o600 });
      writeFileSync(join(folder, 'zone.key'), lab.secret.toString('base64'), { mode: 0o600 });
      writeFileSync(join(folder, 'gateway.toml'), configText(lab));
    }, 60_000);

    afterAll(async () => {
      // Not SIGKILL: wireguard-go would be left behind.
      for (const child of running) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      await lab?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    it('orders its certificate, publishes its key, and shows the same one after a restart', async () => {
      const first = await start();
      await first.said('a new certificate is shown');
      const shown = await certificate(`gateway.apps.${lab.zone}`);
      expect(shown.names).toContain(`*.apps.${lab.zone}`);
      const info = (await page('/.dstack/acme-info')) as Record<string, unknown>;
      expect(info).toMatchObject({
        base_domain: `apps.${lab.zone}`,
        hist_keys: [shown.spki],
        account_quote: '',
      });
      expect(info['quoted_hist_keys']).toEqual([{ public_key: shown.spki, quote: '', attestation: '' }]);
      expect(info['account_uri']).toMatch(/^https:\/\/127\.0\.0\.1:\d+\/my-account\//);
      expect(await overRpc()).toMatchObject({ hist_keys: [shown.spki], base_domain: `apps.${lab.zone}` });
      await first.stop();
      const second = await start();
      expect((await certificate(`gateway.apps.${lab.zone}`)).spki).toBe(shown.spki);
      await second.stop();
    }, 90_000);

    type Started = { said(message: string): Promise<void>; stop(): Promise<void> };

    async function start(): Promise<Started> {
      const child = spawn(
        process.execPath,
        ['--import', 'tsx', '-C', '@dstack/source', MAIN, '--config', join(folder, 'gateway.toml')],
        { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_EXTRA_CA_CERTS: lab.caFile } },
      );
      running.push(child);
      const lines: string[] = [];
      createInterface({ input: child.stdout! }).on('line', (line) => lines.push(line));
      const said = async (message: string): Promise<void> => {
        const has = () => lines.some((line) => line.includes(message)) || child.exitCode !== null;
        await expect.poll(has, { timeout: 45_000 }).toBe(true);
        expect(lines.join('\n')).toContain(message);
      };
      await said('Listening');
      return {
        said,
        stop: async () => {
          child.kill('SIGTERM');
          await once(child, 'exit');
          expect(child.exitCode).toBe(0);
        },
      };
    }

    async function certificate(servername: string): Promise<{ spki: string; names: string }> {
      const client = connect({ host: '127.0.0.1', port: PORT + 2, servername, rejectUnauthorized: false });
      client.on('error', () => client.destroy());
      await Promise.race([once(client, 'secureConnect'), once(client, 'close')]);
      const shown = client.getPeerX509Certificate();
      client.destroy();
      const spki = shown?.publicKey.export({ format: 'der', type: 'spki' }).toString('hex') ?? '';
      return { spki, names: shown?.subjectAltName ?? '' };
    }

    async function page(path: string): Promise<unknown> {
      return await json(
        get({
          host: '127.0.0.1',
          port: PORT + 2,
          servername: `gateway.apps.${lab.zone}`,
          path,
          rejectUnauthorized: false,
          agent: false,
        }),
      );
    }

    async function overRpc(): Promise<unknown> {
      const call = request({
        host: '127.0.0.1',
        port: PORT + 1,
        path: '/prpc/AcmeInfo?json',
        method: 'POST',
        rejectUnauthorized: false,
        agent: false,
      });
      return await json(call.end('{}'));
    }

    async function json(call: import('node:http').ClientRequest): Promise<unknown> {
      const [response] = (await once(call, 'response')) as [import('node:http').IncomingMessage];
      let text = '';
      for await (const chunk of response) text += chunk;
      return JSON.parse(text);
    }
  },
);

function configText(lab: AcmeLab): string {
  return `
port = ${PORT + 1}
[tls]
key = "rpc.key"
certs = "rpc.pem"
mutual = { ca_certs = "kms.pem" }
[core]
state_path = "state"
[core.proxy]
base_domain = "apps.${lab.zone}"
listen_addr = "127.0.0.1"
listen_port = ${PORT + 2}
[core.wg]
interface = "${TAG}"
driver = "userspace"
listen_port = ${PORT}
ip = "10.234.0.1/24"
reserved_net = ["10.234.0.1/32"]
client_ip_range = "10.234.0.0/25"
[core.certbot]
enabled = true
acme_url = "${lab.directory}"
[core.certbot.rfc2136]
server = "127.0.0.1:${lab.dnsPort}"
zone = "${lab.zone}"
key_name = "acme-key"
key_file = "zone.key"
`;
}
