/**
 * Watching Certificate Transparency: the gateway's certificate from a real authority, its key quoted by a simulated TEE and verified by
 * our verifier, a log of RFC 6962 of the test, and the monitor as the program that is installed.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { addRoot, rootCertificate, vendorCollateral, vendorRoots } from '@dstack-cloud/attestation';
import { createLogger } from '@dstack-cloud/guest-agent';
import { DstackClient } from '@dstack-cloud/sdk';
import { type RunningSimulator, startSimulator } from '@dstack-cloud/simulator';
import { ACME_PROGRAMS, type AcmeLab, startAcmeLab } from '@dstack-cloud/test/acme-lab';
import { type CtLog, startCtLog } from '@dstack-cloud/test/ct-log';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { createMetrics, createService } from '@dstack-cloud/verifier/service';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { countedAuthority } from '../harness/acme-counter.ts';
import { getPage, keyService } from '../harness/gateway-lab.ts';
import { type LabNode, makeNetwork, makeNode } from '../harness/gateway-nodes.ts';

const MONITOR = fileURLToPath(new URL('../../packages/certbot/src/ct-monitor-main.ts', import.meta.url));

describeWithPrograms('Certificate Transparency', [...ACME_PROGRAMS, 'wg', 'wireguard-go', 'ip'], () => {
  const folder = mkdtempSync(join(tmpdir(), 'gateway-ct-'));
  const network = makeNetwork();
  const undo: (() => unknown)[] = [];
  const alarms: { names: string[] }[] = [];
  const running: ChildProcess[] = [];
  let acme: AcmeLab;
  let simulator: RunningSimulator;
  let log: CtLog;
  let node: LabNode;
  let words: string[] = [];
  let base = '';

  beforeAll(async () => {
    const here = `${network.net}.1`;
    acme = await startAcmeLab('example.test', here);
    base = `apps.${acme.zone}`;
    const authority = await countedAuthority(folder, acme.directory, acme.caFile, here);
    undo.push(authority.close);
    const silent = createLogger('test');
    silent.level = 'silent';
    simulator = await startSimulator({ directory: join(folder, 'simulator') }, silent);
    const agent = new DstackClient(simulator.sockets.dstack);
    const { app_id: appId } = await agent.info();
    agent.close();
    writeFileSync(join(folder, 'zone.key'), acme.secret.toString('base64'), { mode: 0o600 });
    node = makeNode({
      ...{ number: 0, folder, network, kms: keyService() },
      proxy: `base_domain = "${base}"`,
      tables: `[core.certbot]
enabled = true
acme_url = "${authority.directory}"
caa_issuer = "ca.test"
agent_socket = "${simulator.sockets.dstack}"
[core.certbot.rfc2136]
server = "${here}:${acme.dnsPort}"
zone = "${acme.zone}"
key_name = "acme-key"
key_file = "${join(folder, 'zone.key')}"`,
      env: { NODE_EXTRA_CA_CERTS: authority.caFile },
    });
    await node.start();
    log = await startCtLog();
    writeFileSync(join(folder, 'log.pem'), log.publicKey);
    const root = rootCertificate(readFileSync(simulator.rootFile ?? ''));
    const roots = addRoot(vendorRoots(), 'tdx', root);
    const verifier = createService({
      verify: {
        roots,
        collateral: vendorCollateral({ roots, pccs: simulator.collateralUrl ?? '', amdKds: undefined }),
      },
      now: () => Math.floor(Date.now() / 1000),
      maxConcurrency: 4,
      metrics: createMetrics(1),
      log: () => undefined,
    });
    // The page of the gateway over its own TLS, for a monitor that has no name server of the test.
    const page = createServer((request, response) => {
      const { address: host, proxyPort: port } = node;
      getPage(port, `gateway.${base}`, { host, path: request.url ?? '/' }).then(
        (text) => response.end(text),
        () => response.destroy(),
      );
    });
    const webhook = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk) => {
        text += chunk;
      });
      request.on('end', () => {
        alarms.push(JSON.parse(text) as { names: string[] });
        response.end('{}');
      });
    });
    words = [
      ...['--gateway', base, '--gateway-url', await listening(page)],
      ...['--verifier-url', await listening(verifier), '--webhook-url', `${await listening(webhook)}/alarm`],
      ...['--expect-app-id', appId, '--log', `${log.url}=${join(folder, 'log.pem')}`, '--from-start'],
      ...['--state', join(folder, 'ct.json'), '--metrics-file', join(folder, 'ct.prom')],
    ];
  }, 90_000);

  afterAll(async () => {
    for (const child of running) if (child.exitCode === null) child.kill('SIGKILL');
    for (const step of undo.reverse()) step();
    log?.close();
    await node?.remove();
    await simulator?.close();
    await acme?.stop();
    network.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("gateway-ct-alarm: the gateway's own certificates are known by their quotes, and one of a stranger raises the alarm", async () => {
    await expect.poll(certificateShown, { timeout: 45_000 }).not.toBeUndefined();
    log.add((await certificateShown())!);
    expect(await monitor('--once')).toBe(0);
    expect(metric('known_keys')).toBe(1);
    // An honest renewal is no alarm.
    await node.operator().renewCert({});
    log.add((await certificateShown())!);
    expect(await monitor('--once')).toBe(0);
    expect([metric('known_keys'), metric('unknown_certificates'), alarms.length]).toEqual([2, 0, 0]);

    log.add(stranger());
    expect(await monitor('--once')).toBe(3);
    expect(alarms).toEqual([expect.objectContaining({ domain: base, names: [`any.${base}`] })]);
    expect(metric('unknown_certificates')).toBe(1);
    // Still one after a restart, and told once.
    expect(await monitor('--once')).toBe(3);
    expect(alarms).toHaveLength(1);

    log.truncate(1);
    expect(await monitor('--once')).toBe(3);
    expect(metric('problems')).toBe(1);
  }, 90_000);

  it('gateway-state-sealed: the disk holds no key in the clear, and the gateway of the same application opens it again', async () => {
    const shown = await certificateShown();
    expect(await node.stop()).toBe(0);
    const state = readFileSync(join(folder, 'node0/state/state.db'));
    expect(state.includes('sealed:1:')).toBe(true);
    expect(state.includes('PRIVATE KEY')).toBe(false);
    expect(state.includes('key_pkcs8')).toBe(false);
    await node.start();
    expect(await certificateShown()).toEqual(shown);
  }, 60_000);

  it('gateway-ct-usage: what is missing or unsafe is said before anything is asked', async () => {
    expect(await monitor('--once', '--search', 'http://crt.example')).toBe(2);
    words = words.filter((_, at) => words[at] !== '--expect-app-id' && words[at - 1] !== '--expect-app-id');
    expect(await monitor('--once')).toBe(2);
  }, 30_000);

  async function monitor(...more: string[]): Promise<number | null> {
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '-C', '@dstack/source', MONITOR, ...words, ...more],
      {
        stdio: 'ignore',
      },
    );
    running.push(child);
    await once(child, 'exit');
    return child.exitCode;
  }

  function metric(name: string): number {
    const text = readFileSync(join(folder, 'ct.prom'), 'utf8');
    return Number(new RegExp(`^dstack_ct_monitor_${name} (\\d+)$`, 'm').exec(text)?.[1]);
  }

  async function certificateShown(): Promise<Uint8Array | undefined> {
    const { address: host, proxyPort: port } = node;
    const client = connect({ host, port, servername: `gateway.${base}`, rejectUnauthorized: false });
    client.on('error', () => client.destroy());
    await Promise.race([once(client, 'secureConnect'), once(client, 'close')]);
    const shown = client.getPeerX509Certificate();
    client.destroy();
    return shown && new Uint8Array(shown.raw);
  }

  function stranger(): Uint8Array {
    const made = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x'.split(' ');
    const out = join(folder, 'stranger.der');
    const files = ['-keyout', join(folder, 'stranger.key'), '-outform', 'DER', '-out', out];
    execFileSync('openssl', ['req', ...made, ...files, '-addext', `subjectAltName=DNS:any.${base}`], {
      stdio: 'ignore',
    });
    return new Uint8Array(readFileSync(out));
  }

  async function listening(server: Server): Promise<string> {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    undo.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  }
});
