import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { composeHash } from '@dstack-cloud/app';
import { type Attestation, encodeAttestation, reportData } from '@dstack-cloud/attestation';
import { type EvidenceDevice, openTdxDevice } from '@dstack-cloud/attestation/attester';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import {
  type CollateralServer,
  collateralServer,
  createPlatform,
  DEBUG_ATTRIBUTES,
  simulatedBoot,
  type TsmEndpoint,
  tsmEndpoint,
} from '@dstack-cloud/tee-simulator';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadGlobalConfig } from '../config/global-config.ts';
import { createContext } from '../context.ts';
import { splitGlobalOptions } from '../global-options.ts';
import type { Place } from '../platforms/platform.ts';
import { deviceId } from '../status/device-id.ts';
import { Sandbox } from '../testing.ts';
import type { Link } from './link.ts';

interface Report {
  readonly is_valid: boolean;
  readonly verdict: string;
  readonly verdict_text: string;
  readonly verified_now: boolean;
  readonly compared: readonly unknown[];
  readonly links: readonly Link[];
  readonly identity: Readonly<Record<string, string>> | null;
}

const IMAGE = 'dstack-sim-0.6.0';
const COMPOSE = '{"manifest_version":2,"name":"x","runner":"docker-compose"}';
const APP_ID = '11'.repeat(20);
const platform = createPlatform(new Uint8Array(32).fill(7));

let directory: string;
let collateral: CollateralServer;
let endpoint: TsmEndpoint;
let device: EvidenceDevice;
let agent: Server;
let agentUrl: string;
/** What the agent signs for a nonce; attacks replace it. */
let answer: (nonce: string) => Promise<object>;
const box = new Sandbox();

async function machine(
  name: string,
  debug: boolean,
): Promise<{ endpoint: TsmEndpoint; device: EvidenceDevice }> {
  const socketPath = join(directory, `${name}.sock`);
  const endpoint = await tsmEndpoint(platform, {
    socketPath,
    image: IMAGE,
    ...(debug ? { td: { tdAttributes: DEBUG_ATTRIBUTES } } : {}),
  });
  const at = `unix:${socketPath}`;
  const vmConfig = JSON.stringify(simulatedBoot({ image: IMAGE }).vmConfig);
  const device = await openTdxDevice({
    tsm: at,
    rtmr: at,
    ccel: at,
    eventLog: join(directory, `${name}.log`),
    vmConfig: () => vmConfig,
  });
  const events: readonly (readonly [string, Uint8Array])[] = [
    ['system-preparing', new Uint8Array()],
    ['app-id', fromHex(APP_ID)],
    ['compose-hash', composeHash(utf8(COMPOSE))],
    ['instance-id', fromHex('22'.repeat(20))],
    ['boot-mr-done', new Uint8Array()],
    ['key-provider', utf8('{"name":"none","id":""}')],
    ['storage-fs', utf8('ext4')],
    ['system-ready', new Uint8Array()],
  ];
  for (const [event, payload] of events) await device.emitEvent({ event, payload });
  return { endpoint, device };
}

const publicData = (nonce: string): Uint8Array =>
  reportData({ tag: 'dstack-public-attestation', content: fromHex(nonce) });
const document = (attestation: Attestation): object => ({
  attestation: toHex(encodeAttestation(attestation)),
  app_compose: COMPOSE,
});

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'verify-'));
  collateral = await collateralServer(platform);
  ({ endpoint, device } = await machine('good', false));
  agent = createServer((request, response) => {
    const nonce = new URL(request.url ?? '', 'http://x').searchParams.get('nonce') ?? '';
    answer(nonce).then(
      (body) => response.end(JSON.stringify(body)),
      (error: Error) => response.writeHead(500).end(error.message),
    );
  });
  await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
  agentUrl = `http://127.0.0.1:${(agent.address() as { port: number }).port}`;
  writeFileSync(box.path('root.pem'), platform.rootPem);
  const config = (root: boolean) => ({
    services: { pccs_url: collateral.url },
    ...(root ? { attestation: { root_ca: { tdx: box.path('root.pem') } } } : {}),
  });
  writeFileSync(box.path('trusting.json'), JSON.stringify(config(true)));
  writeFileSync(box.path('vendor.json'), JSON.stringify(config(false)));
  box.now = new Date();
});
afterAll(async () => {
  agent.closeAllConnections();
  agent.close();
  await device.close?.();
  await endpoint.close();
  await collateral.close();
  box.remove();
  rmSync(directory, { recursive: true, force: true });
});

async function verify(...more: string[]): Promise<{ code: number; report: Report }> {
  const given = more.includes('--config') ? [] : ['--config', box.path('trusting.json')];
  const outcome = await box.run('verify', agentUrl, '--json', ...given, ...more);
  return { code: outcome.code, report: JSON.parse(outcome.stdout) };
}
const honest = async (nonce: string): Promise<object> => document(await device.attest(publicData(nonce)));
const broken = (report: Report): string[] =>
  report.links.filter(({ ok }) => ok === false).map(({ name }) => name);

describe('verify', () => {
  it('accepts genuine evidence and says that it is simulated', async () => {
    answer = honest;
    const hash = toHex(composeHash(utf8(COMPOSE)));
    const { code, report } = await verify('--compose-hash', hash, '--app-id', `0x${APP_ID}`);
    expect(broken(report)).toEqual([]);
    expect(code).toBe(0);
    expect(report).toMatchObject({
      is_valid: true,
      simulated: true,
      identity: { app_id: APP_ID, compose_hash: hash },
    });
    expect(report.verdict).toBe('accepted');
    expect(report.verdict_text).toMatch(/^VALID: consistent \(SIMULATED\), and what was expected/);
    expect(report.verified_now).toBe(true);
    const text = await box.run('verify', agentUrl, '--config', box.path('trusting.json'));
    expect(text.stdout).toContain('✓ Hardware');
    expect(text.stdout).toContain('✓ OS image');
    expect(text.stdout.trimEnd().split('\n').at(-1)).toMatch(
      /^Verdict: Consistent \(SIMULATED\), but nothing was compared with it/,
    );
  });

  it('accepts the same from a file, without freshness', async () => {
    writeFileSync(box.path('evidence.json'), JSON.stringify(await honest('00')));
    const outcome = await box.run('verify', 'evidence.json', '--json', '--config', box.path('trusting.json'));
    const report = JSON.parse(outcome.stdout) as Report;
    expect(report.is_valid).toBe(true);
    expect(report.links.find(({ name }) => name === 'Freshness')?.ok).toBeNull();
  });
});

describe('expectations', () => {
  it.each([
    ['half a hash', ['--compose-hash', 'abcd']],
    ['an empty one', ['--app-id', '']],
    ['one twice', ['--app-id', APP_ID, '--app-id', APP_ID]],
    ['one twice by two names', ['--app-id', APP_ID, '--expect', `app_id=${APP_ID}`]],
    ['an unknown name', ['--expect', `appid=${APP_ID}`]],
    ['a name alone', ['--expect', 'app_id']],
    ['a time that is none', ['--at', 'yesterday']],
    ['a time twice', ['--at', 'now', '--at', 'now']],
  ])('%s is refused, not ignored', async (_name, flags) => {
    answer = honest;
    const { code, stderr } = await box.run(
      'verify',
      agentUrl,
      '--config',
      box.path('trusting.json'),
      ...flags,
    );
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^Error: /)]);
  });

  it('without any the verdict says that nothing was compared, in text and JSON', async () => {
    answer = honest;
    const { code, report } = await verify();
    expect(code).toBe(0);
    expect(report).toMatchObject({ verdict: 'nothing-compared', compared: [] });
    expect(report.links.find(({ name }) => name === 'Expectations')).toMatchObject({ ok: null });
  });

  it('compares registers and the OS image too, and at another time says so', async () => {
    answer = honest;
    const { report } = await verify('--expect', 'mode=dstack-tdx', '--os-image-hash', '00'.repeat(32));
    expect(broken(report)).toEqual(['OS image hash']);
    expect(report.verdict).toBe('not-accepted');
    const later = new Date(Date.now() + 400 * 86_400_000).toISOString().slice(0, 10);
    const other = await verify('--at', later);
    expect([other.code, other.report.verified_now]).toEqual([1, false]);
    expect(other.report.verdict_text).toContain(`at ${later}T00:00:00Z, NOT now`);
  });
});

describe('deviceId', () => {
  const place = async (config: string): Promise<Place> => {
    const { options } = splitGlobalOptions(['--config', box.path(config)], {});
    const context = createContext(box.host(), options);
    return { context, config: await loadGlobalConfig(context), project: undefined as never };
  };

  it('is the hash of the hardware id in verified evidence, as verify finds it', async () => {
    answer = honest;
    const { report } = await verify();
    const found = await deviceId(await place('trusting.json'), agentUrl);
    expect(found).toMatch(/^[0-9a-f]{64}$/);
    expect(found).toBe(report.identity?.['device_id']);
  });

  it('is not known from evidence that does not verify', async () => {
    await expect(deviceId(await place('vendor.json'), agentUrl)).rejects.toThrow('trust root');
    answer = () => honest('00');
    await expect(deviceId(await place('trusting.json'), agentUrl)).rejects.toThrow();
  });
});

describe('attacks', () => {
  it('simulated-root-not-configured: the vendor alone is trusted', async () => {
    answer = honest;
    const { code, report } = await verify('--config', box.path('vendor.json'));
    expect(code).toBe(1);
    expect(broken(report)).toEqual(['Hardware']);
    expect(report.verdict).toBe('refused');
    expect(report.verdict_text).toBe('NOT VALID (Hardware): refused');
    expect(report.links.at(-1)?.why).toMatch(/tdx\.pck-path: No path leads to a trust root; .*root_ca\.tdx/);
  });

  it('replayed-quote: evidence over another nonce', async () => {
    answer = () => honest('00');
    const { code, report } = await verify();
    expect(code).toBe(1);
    expect(report.links.find(({ ok }) => ok === false)?.why).toContain('report-data.expected');
  });

  it('flipped-bit: one bit of the quote', async () => {
    answer = async (nonce) => {
      const attestation = await device.attest(publicData(nonce));
      const { quote } = attestation;
      if (quote.mode !== 'dstack-tdx') throw new Error('unexpected mode');
      const bytes = quote.quote.slice();
      bytes[200] = (bytes[200] ?? 0) ^ 1;
      return document({ ...attestation, quote: { ...quote, quote: bytes } });
    };
    const { code, report } = await verify();
    expect(code).toBe(1);
    expect(broken(report)).toEqual(['Hardware']);
  });

  it('debug-td: a machine whose memory is open to its host', async () => {
    const debug = await machine('debug', true);
    answer = async (nonce) => document(await debug.device.attest(publicData(nonce)));
    const { code, report } = await verify();
    await debug.device.close?.();
    await debug.endpoint.close();
    expect(code).toBe(1);
    expect(broken(report)).toEqual(['Hardware']);
  });

  it('other-compose-file: what is shown is not what was measured', async () => {
    answer = async (nonce) => ({ ...(await honest(nonce)), app_compose: '{}' });
    expect(broken((await verify()).report)).toEqual(['Compose file']);
  });

  it('other-app: another app id or compose hash than expected', async () => {
    answer = honest;
    const { code, report } = await verify('--app-id', '33'.repeat(20), '--compose-hash', '44'.repeat(32));
    expect(code).toBe(1);
    expect(broken(report)).toEqual(['Compose hash', 'App id']);
  });

  it('pccs-down: names the collateral service', async () => {
    answer = honest;
    const config = {
      services: { pccs_url: 'http://127.0.0.1:9' },
      attestation: { root_ca: { tdx: box.path('root.pem') } },
    };
    writeFileSync(box.path('down.json'), JSON.stringify(config));
    const { code, report } = await verify('--config', box.path('down.json'));
    expect(code).toBe(1);
    expect(broken(report)).toEqual(['Hardware']);
  });

  it.each([
    ['an answer without attestation', async () => ({ quote: '00' })],
    ['an attestation that is no hex', async () => ({ attestation: '…' })],
    ['garbage', async () => ({ attestation: 'ff'.repeat(100) })],
    ['an attestation of another kind', async () => ({ attestation: '04', app_compose: COMPOSE })],
  ])('refuses %s', async (_name, make) => {
    answer = make;
    const { code, report } = await verify();
    expect([code, report.is_valid, report.verdict]).toEqual([1, false, 'refused']);
  });

  it('says that the agent gives no evidence', async () => {
    answer = () => Promise.reject(new Error('no'));
    const outcome = await box.run('verify', agentUrl, '--config', box.path('trusting.json'));
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/^Error: No evidence: .* answered 500/);
  });

  it('bundle-from-a-prover: no time and no collateral come from an address', async () => {
    const bundle = {
      format: 'dstack-evidence-bundle',
      version: 1,
      time: 1_781_524_800,
      evidence: Buffer.from(JSON.stringify(await honest('00'))).toString('base64'),
      chain: [],
      collateral: { documents: [], snp: [], pck_certificates: [], crls: {} },
    };
    answer = async () => bundle;
    const { code, report } = await verify();
    expect([code, report.verdict, report.verified_now]).toEqual([1, 'refused', true]);
    expect(report.links).toMatchObject([{ name: 'Evidence', ok: false }]);
    writeFileSync(box.path('bundle.json'), JSON.stringify(bundle));
    const file = await box.run('verify', 'bundle.json', '--json', '--config', box.path('trusting.json'));
    expect(JSON.parse(file.stdout)).toMatchObject({
      verdict: 'cannot-judge',
      verified_at: 1_781_524_800,
      verified_now: false,
      verdict_text: expect.stringContaining('at 2026-06-15T12:00:00Z, NOT now'),
    });
  });

  it('recording-at-an-address: only what is made for a nonce of ours comes from an address', async () => {
    for (const url of [
      `${agentUrl}/evidence.json`,
      `${agentUrl}/attestation?nonce=00`,
      'https://',
      'http:x',
    ]) {
      const { code, stderr } = await box.run('verify', url, '--config', box.path('trusting.json'));
      expect([code, stderr]).toEqual([2, expect.stringContaining('not the address of a guest agent')]);
    }
  });

  it('escapes-in-evidence: what an agent says commands no terminal', async () => {
    answer = async () => ({ attestation: '\u001b[2J\u202e\u009b31m' });
    for (const flags of [[], ['--json']]) {
      const { stdout, stderr } = await box.run(
        'verify',
        agentUrl,
        ...flags,
        '--config',
        box.path('trusting.json'),
      );
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
      expect(stdout + stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    }
  });
});
