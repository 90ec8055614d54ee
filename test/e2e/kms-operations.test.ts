/** What an operator does to a running key service, and what the program says before it runs. */
import { readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { getPlain } from '../harness/call-kms.ts';
import { type KmsHost, type KmsLab, labWorkload, startKmsLab } from '../harness/kms-lab.ts';
import { repository, runCommand } from '../harness/run-command.ts';

let lab: KmsLab;
let host: KmsHost;
beforeAll(async () => {
  lab = await startKmsLab();
  host = await lab.host('operated');
}, 120_000);
afterAll(async () => lab?.stop());

const CONTRACT = `kms_contract = "0x${'11'.repeat(20)}"`;
const checkConfig = async (text: string, env: Record<string, string> = {}) => {
  const file = join(lab.directory, 'checked.toml');
  writeFileSync(file, text);
  const program = join(repository, 'dist/bin/dstack-kms');
  return await runCommand([program, '--config', file, 'check-config'], { env });
};

describe('check-config', () => {
  test.each<[string, RegExp, Record<string, string>?]>([
    ['[core.auth_api.webhook]\nurl = "auth-api"', /auth API address must be an http or https URL/],
    [
      '[core.auth_api.webhook]\nurl = "https://auth.example"\nca_cert = "/nowhere.pem"',
      /ca_cert: "\/nowhere.pem" cannot be read/,
    ],
    ['[core.auth_api.chain]\nrpc_urls = ["http://a"]\nkms_contract = "0x11"', /must be 20 bytes/],
    [`[core.auth_api.chain]\nrpc_urls = ["http://a"]\nquorum = 2\n${CONTRACT}`, /quorum is 2/],
    [`[core.auth_api.chain]\nrpc_urls = ["a"]\n${CONTRACT}`, /http or https/],
    [
      '[core.attestation]\ninsecure_allow_external_trust_anchors = true\nroot_ca = { tdx = "/nowhere.pem" }',
      /root_ca.tdx: "\/nowhere.pem"/,
    ],
    ['', /DSTACK_AGENT_ADDRESS: "agent" must be unix:\/path/, { DSTACK_AGENT_ADDRESS: 'agent' }],
  ])('check-config-refuses-what-a-start-would: %j', async (text, message, env) => {
    const { code, stderr } = await checkConfig(text, env);
    expect(stderr).toMatch(message);
    expect(code).toBe(1);
  });

  test('a configuration that can be used', async () => {
    const { code, stdout } = await checkConfig(`[core.auth_api.chain]\nrpc_urls = ["http://a"]\n${CONTRACT}`);
    expect([code, stdout]).toEqual([0, 'The configuration is valid\n']);
  });
});

/** The serial number of the certificate that a new connection is shown. */
const serialNumber = (url: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const { hostname: address, port } = new URL(url);
    const socket = connect({ host: address, port: Number(port), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.end();
    });
    socket.on('error', reject);
  });

describe('signals', () => {
  test('certificate-renewed-on-sighup: once for many signals, for new connections, and a failure changes nothing', async () => {
    const kms = await host.serve();
    const before = await serialNumber(kms.url);
    for (let signal = 0; signal < 5; signal++) kms.process.kill('SIGHUP');
    await kms.until('RPC certificate renewed');
    const after = await serialNumber(kms.url);
    expect(after).not.toBe(before);
    host.onAgentCall = () => {
      throw new Error('no agent');
    };
    kms.process.kill('SIGHUP');
    await kms.until('RPC certificate could not be renewed');
    host.onAgentCall = undefined;
    expect(await serialNumber(kms.url)).toBe(after);
    expect((await getPlain(kms.url, '/health')).status).toBe(200);
    expect(kms.lines().filter(({ msg }) => msg === 'RPC certificate renewed').length).toBeLessThan(5);
    expect(await kms.stop()).toBe(0);
  });

  test('stops-when-answered: a call under way gets its answer, then its kept connection does not hold the service up', async () => {
    const kms = await host.serve();
    const identity = await lab.identity(kms, labWorkload('waiting'));
    lab.webhook.app = async () => {
      await new Promise((resolve) => setTimeout(resolve, 700));
      return { isAllowed: true, reason: '', gatewayAppId: 'any' };
    };
    const agent = new Agent({ keepAlive: true });
    const options = { agent, method: 'POST', rejectUnauthorized: false, ...identity };
    const status = new Promise((resolve, reject) => {
      const call = request(`${kms.url}/prpc/GetAppKey?json`, options, (response) => {
        response.resume().on('end', () => resolve(response.statusCode));
      });
      call.on('error', reject).end('{}');
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    const began = performance.now();
    const stopped = kms.stop();
    expect(await status).toBe(200);
    expect(await stopped).toBe(0);
    expect(performance.now() - began).toBeLessThan(3_000);
    agent.destroy();
  });

  test('sighup-while-onboarding does not end the service', async () => {
    const fresh = await lab.host('fresh', { core: { onboard: { auto_bootstrap_domain: '' } } });
    const kms = fresh.run();
    await kms.until('onboarding listener started');
    kms.process.kill('SIGHUP');
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect((await fetch(`${kms.onboardUrl}/health`)).status).toBe(200);
    await kms.stop();
  });
});

describe('secrets', () => {
  test.runIf(process.platform === 'linux')(
    'no-memory-in-core-dumps: nor keys in arguments, environment or log',
    async () => {
      const kms = await host.serve();
      const of = (name: string): string => readFileSync(`/proc/${kms.process.pid}/${name}`, 'latin1');
      expect(Number.parseInt(of('coredump_filter'), 16)).toBe(0);
      const root = readFileSync(join(host.certDir, 'root-k256.key'));
      const everything = of('cmdline') + of('environ') + kms.output();
      for (const form of ['hex', 'base64', 'latin1'] as const) {
        expect(everything.includes(root.toString(form))).toBe(false);
      }
      await kms.stop();
    },
  );

  test('one-process-per-key-directory: a second one is refused, and the first goes on', async () => {
    const kms = await host.serve();
    const second = host.run();
    expect(await second.ended()).toBe(1);
    expect(second.output()).toMatch(/in use|another/i);
    expect((await getPlain(kms.url, '/health')).status).toBe(200);
    await kms.stop();
  });
});
