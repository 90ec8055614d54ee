import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorChain } from '@dstack-cloud/runtime';
import { afterAll, describe, expect, test } from 'vitest';
import { checkConfig } from './check-config.ts';
import { parseDuration, parseSize } from './duration.ts';
import { loadConfig } from './load-config.ts';
import { nearestKey } from './nearest-key.ts';
import { printConfig } from './print-config.ts';

const directory = mkdtempSync(join(tmpdir(), 'kms-config-'));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

describe('loadConfig', () => {
  test.each([
    ['token.toml', '[core.admin]\nauth_token = "secret-token\n'],
    ['token.json', '{"core":{"admin":{"auth_token":"secret-token" oops}}}'],
    ['twice.json', '{"core":{"admin":{"auth_token":"other","auth_token":"secret-token"}}}'],
  ])('a damaged or ambiguous %s is refused without showing what it holds', (name, text) => {
    const path = file(name, text);
    let error: unknown;
    try {
      loadConfig(path, {}, []);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'config-invalid' });
    expect(errorChain(error)).toContain(path);
    expect(errorChain(error)).not.toContain('secret-token');
  });

  test("reads the original's kms.toml with every key", () => {
    const config = loadConfig(
      file(
        'kms.toml',
        `[default]
workers = 8
max_blocking = 64
ident = "DStack KMS"
temp_dir = "/tmp"
keep_alive = 10
log_level = "info"

[rpc]
address = "0.0.0.0"
port = 12001

[rpc.tls]
key = "/etc/kms/certs/rpc.key"
certs = "/etc/kms/certs/rpc.crt"

[rpc.tls.mutual]
ca_certs = "/etc/kms/certs/tmp-ca.crt"
mandatory = false

[rpc.limits]
GetAppKey = "1MiB"

[core]
cert_dir = "/etc/kms/certs"
subject_postfix = ".dstack"
admin_token_hash = ""
site_name = "lab"

[core.image]
verify = true
cache_dir = "/usr/share/dstack/images"
download_url = "http://localhost:8000/{OS_IMAGE_HASH}.tar.gz"
download_timeout = "2m"

[core.auth_api]
type = "webhook"

[core.auth_api.webhook]
url = "http://auth-api:8000"

[core.auth_api.dev]
gateway_app_id = "any"

[core.onboard]
enabled = true
auto_bootstrap_domain = ""
quote_enabled = true
address = "0.0.0.0"
port = 12001
`,
      ),
      {},
      [],
    );
    expect(config.rpc.port).toBe(12001);
    expect(config.core.image.download_timeout).toBe(120);
    expect(config.policy).toBe('webhook');
    expect(config.warnings).toEqual([expect.stringMatching(/^core\.auth_api\.webhook\.url: .*plain HTTP/)]);
  });

  test('later files win, tables are merged', () => {
    const base = file('base.toml', '[core]\nsite_name = "a"\n[core.image]\nverify = false\n');
    const over = file('over.json', '{"core":{"site_name":"b"}}');
    const config = loadConfig(over, {}, [base]);
    expect([config.core.site_name, config.core.image.verify]).toEqual(['b', false]);
  });

  test.each([
    ['[core]\nsite_nme = "x"', 'core.site_nme: unknown key; did you mean "site_name"?'],
    ['[core.onbord]\nenabled = true', 'core.onbord: unknown key; did you mean "onboard"?'],
    ['[core.onboard]\nprot = 1', 'core.onboard.prot: unknown key; did you mean "port"?'],
    ['[rpc]\nport = 70000', 'rpc.port: 70000 is not accepted'],
    [
      '[core.image]\ndownload_timeout = "soon"',
      'core.image.download_timeout: "soon" is not accepted; must be a duration',
    ],
    ['[core.image]\nmax_download_size = "much"', 'core.image.max_download_size: "much" is not accepted'],
    [
      '[core.image]\nmax_unpacked_size = 0',
      'core.image.max_unpacked_size: 0 is not accepted; must be a size',
    ],
    ['[core.image]\ndownload_url = "http://host/image.tar.gz"', 'must be an http or https address with'],
    ['[core.image]\ndownload_url = "file:///{OS_IMAGE_HASH}"', 'must be an http or https address with'],
    ['[core.image]\ndownload_url = "https://a:b@host/{OS_IMAGE_HASH}"', 'without password'],
    ['[core.auth_api]\ntype = "dev"', 'gives keys to everybody'],
    ['[core.auth_api]\ntype = "chain"', 'rpc_urls and kms_contract are needed'],
    ['[core.auth_api.chain]\nread = "proofs"', 'core.auth_api.chain.read: "proofs" is not accepted'],
    [
      '[core.auth_api.chain]\nrequire_timelock = 0',
      'core.auth_api.chain.require_timelock: 0 is not accepted',
    ],
    ['[core.auth_api.chain]\nrequire_timelock = "31d"', 'must be 1 to 2592000 seconds'],
    [
      '[core.auth_api.chain]\nrequire_timelock = "soon"',
      'core.auth_api.chain.require_timelock: "soon" is not accepted; must be 1 to 2592000 seconds, or a duration such as "1d"',
    ],
    ['[core.auth_api.chain]\nfinality = "soon"', '"soon" is not accepted; must be "latest", "safe"'],
    [
      '[core.auth_api]\ntype = "webhook"\n[core.auth_api.chain]\nrequire_timelock = "1d"',
      'core.auth_api.chain.require_timelock is set, and core.auth_api.type is "webhook"',
    ],
    ['[core.auth_api.chain]\nlight_client_url = "helios:8545"', 'must be an http or https address'],
    ['[core.auth_api.chain.known_code]\n"0x12" = "dstack-app-0.6"', 'must be named by a code hash'],
    [
      `[core.auth_api.chain.known_code]\n"0x${'12'.repeat(32)}" = "dstack-app-9"`,
      `core.auth_api.chain.known_code.0x${'12'.repeat(32)}: "dstack-app-9" is not accepted`,
    ],
    ['[core.attestation.root_ca]\ntdx = "/x"', 'external attestation trust anchors are configured'],
    [
      '[core.admin]\nenabled = true',
      'admin API is enabled but neither auth_token nor htpasswd_file is configured',
    ],
    ['[rpc.tls]\nkey = "/elsewhere/rpc.key"', 'rpc.tls.key: "/elsewhere/rpc.key" must be'],
    ['[rpc.tls.mutual]\nmandatory = true', 'rpc.tls.mutual.mandatory'],
    ['[core.attestation]\naccepted_tcb_statuses = ["Uptodate"]', 'core.attestation.accepted_tcb_statuses.0'],
    [
      '[core.attestation.tcb.dstack-tdx]\nstatuses = []',
      'core.attestation.tcb.dstack-tdx.statuses: unknown key',
    ],
    ['[core.attestation.tcb.tdx]\naccepted_statuses = []', 'core.attestation.tcb'],
    ['[rpc.limits]\nGetAppKey = "big"', 'rpc.limits.GetAppKey'],
    ['[rpc.limits]\nGetAppKeys = "1MiB"', 'rpc.limits.GetAppKeys: no such method; did you mean "GetAppKey"?'],
    ['[rpc.limits]\n"KMS.SignCert" = 5', 'rpc.limits.KMS.SignCert: no such method'],
    [
      '[core.admin]\nenabled = true\ninsecure_no_auth = true\naddress = "0.0.0.0"',
      'core.admin.address: "0.0.0.0" with insecure_no_auth must be a loopback address',
    ],
    [
      '[core.admin]\nenabled = true\ninsecure_no_auth = true\naddress = "127.0.0.1.example.com"',
      'must be a loopback address',
    ],
    ['core = 1\n[', 'kms-bad.toml'],
  ])('refuses %j', (text, message) => {
    expect(() => loadConfig(file('kms-bad.toml', text), {}, [])).toThrow(message);
  });

  test('names a file that cannot be read', () => {
    expect(() => loadConfig(join(directory, 'absent.toml'), {}, [])).toThrow('absent.toml cannot be read');
    // A standard file that is there is never passed over.
    symlinkSync(join(directory, 'loop.toml'), join(directory, 'loop.toml'));
    expect(() => loadConfig(undefined, {}, [join(directory, 'loop.toml')])).toThrow(
      'loop.toml cannot be read',
    );
    expect(() => loadConfig(undefined, {}, [join(directory, 'absent.toml')])).not.toThrow();
  });
});

describe('environment', () => {
  test('of the documented container', () => {
    const config = checkConfig(
      {},
      {
        KMS_HTTPS_PORT: '12001',
        ETH_RPC_URL: 'http://a:1,http://b:2',
        KMS_CONTRACT_ADDR: `0x${'11'.repeat(20)}`,
        RUST_LOG: 'kms=debug',
        DSTACK_AGENT_ADDRESS: 'unix:/x',
      },
    );
    expect(config.rpc.port).toBe(12001);
    expect(config.core.onboard.port).toBe(12001);
    expect(config.policy).toBe('chain');
    expect(config.core.auth_api.chain.rpc_urls).toEqual(['http://a:1', 'http://b:2']);
    expect([config.logLevel, config.agentAddress]).toEqual(['debug', 'unix:/x']);
  });

  test('what is set to nothing is not set', () => {
    const empty = { KMS_HTTPS_PORT: '', ETH_RPC_URL: '', KMS_CONTRACT_ADDR: '', LOG_LEVEL: '', PCCS_URL: '' };
    const config = checkConfig({}, { ...empty, DSTACK_KMS_ADMIN_TOKEN: '', ADMIN_API_TOKEN: 'token' });
    expect([config.rpc.port, config.policy, config.logLevel]).toEqual([8000, 'webhook', 'info']);
    expect(config.core.admin.auth_token).toBe('token');
    expect(config.warnings).toEqual([]);
    const chain = { ETH_RPC_URL: 'http://a:1,, ', KMS_CONTRACT_ADDR: `0x${'11'.repeat(20)}` };
    expect(checkConfig({}, chain).core.auth_api.chain.rpc_urls).toEqual(['http://a:1']);
  });

  test('a configured webhook stays', () => {
    const raw = { core: { auth_api: { webhook: { url: 'http://auth:1' } } } };
    const config = checkConfig(raw, { ETH_RPC_URL: 'http://a:1', KMS_CONTRACT_ADDR: `0x${'11'.repeat(20)}` });
    expect(config.policy).toBe('webhook');
  });
});

describe('addresses', () => {
  type Chain = { rpc_urls?: string[]; light_client_url?: string };
  const chainWarnings = (chain: Chain, type = 'chain') =>
    checkConfig(
      {
        core: {
          auth_api: {
            type,
            webhook: { url: 'http://127.0.0.1:8000' },
            chain: { rpc_urls: ['http://127.0.0.1:1'], kms_contract: `0x${'11'.repeat(20)}`, ...chain },
          },
        },
      },
      {},
    ).warnings;
  const webhookWarnings = (url: string) =>
    checkConfig({ core: { auth_api: { type: 'webhook', webhook: { url } } } }, {}).warnings;
  const remote = expect.stringContaining('light_client_url is on another machine');
  const plain = expect.stringContaining('plain HTTP and not loopback');

  test.each(['http://127.0.0.1:8545', 'http://[::1]:8545', 'http://localhost:1'])(
    '%s is this machine',
    (url) => {
      expect(chainWarnings({ light_client_url: url, rpc_urls: [url] })).toEqual([]);
      expect(webhookWarnings(url)).toEqual([]);
    },
  );

  test.each([
    'http://helios:8545',
    'http://10.0.0.7:8545',
    'http://[2001:db8::1]:8545',
    'http://rpc.example.com',
  ])('plain HTTP to %s is warned of, whatever is there', (url) => {
    const address = `${url}/SECRET`;
    const more = url.includes('helios') ? [] : [remote];
    expect(chainWarnings({ light_client_url: address })).toEqual([plain, ...more]);
    expect(chainWarnings({ rpc_urls: ['https://a.example', address] })).toEqual([
      `core.auth_api.chain.rpc_urls[1]: ${url} is plain HTTP and not loopback: whoever is on the way can change what it answers`,
    ]);
    expect(webhookWarnings(address)).toEqual([plain]);
    expect(JSON.stringify(webhookWarnings(address))).not.toContain('SECRET');
    // What is not asked is not warned of.
    expect(chainWarnings({ light_client_url: address, rpc_urls: [address] }, 'webhook')).toEqual([]);
  });

  test('a light client elsewhere is warned of over HTTPS too', () => {
    expect(chainWarnings({ light_client_url: 'https://helios.example.com' })).toEqual([remote]);
    expect(chainWarnings({ rpc_urls: ['https://rpc.example.com'] })).toEqual([]);
  });
});

test('quote_enabled = false never switches off the verification of callers', () => {
  const { core, warnings } = checkConfig({ core: { onboard: { quote_enabled: false } } }, {});
  expect([core.attest_rpc_cert, core.enforce_self_authorization]).toEqual([false, false]);
  expect(warnings).toHaveLength(1);
});

describe('the token of the onboarding listener', () => {
  const tokenOf = (onboard: object, environment = {}) =>
    checkConfig({ core: { onboard } }, environment).core.onboard.token;
  const DSTACK_KMS_ONBOARD_TOKEN = 'from the environment';

  test('has two names, and a variable that counts after both', () => {
    expect(tokenOf({ token: 'a' })).toBe('a');
    expect(tokenOf({ auth_token: 'a' })).toBe('a');
    expect(tokenOf({ auth_token: 'a', token: 'a' })).toBe('a');
    expect(tokenOf({}, { DSTACK_KMS_ONBOARD_TOKEN })).toBe(DSTACK_KMS_ONBOARD_TOKEN);
    expect(tokenOf({ auth_token: 'a' }, { DSTACK_KMS_ONBOARD_TOKEN })).toBe('a');
    expect(tokenOf({ token: 'a' }, { DSTACK_KMS_ONBOARD_TOKEN })).toBe('a');
  });

  test('by two names that differ is refused, and neither shown', () => {
    expect(() => tokenOf({ auth_token: 'SECRET', token: 'SECRET too' })).toThrow(
      expect.objectContaining({ code: 'config-invalid', message: expect.not.stringContaining('SECRET') }),
    );
  });
});

test.each([
  'core.auth_api.chain.rpc_urls = "https://rpc.example/SECRET"',
  'core.auth_api.chain.rpc_urls = ["https://rpc.example/SECRET", 1]',
  'core.auth_api.chain.light_client_url = "rpc.example/SECRET"',
  'core.auth_api.chain.quorum = "https://rpc.example/SECRET"',
  'core.auth_api.chain = "https://rpc.example/SECRET"',
  'core.auth_api.webhook.url = ["https://user:SECRET@auth.example"]',
  'core.auth_api.type = "https://user:SECRET@auth.example"',
  'core.image.download_url = "https://user:SECRET@images.example/{OS_IMAGE_HASH}"',
  'core.attestation.urls.pccs = ["https://pccs.example/SECRET"]',
  'core.pccs_url = ["https://pccs.example/SECRET"]',
  '[[core.onboard]]\ntoken = "SECRET"',
  '[[core.admin]]\nauth_token = "SECRET"',
  'core.onboard.token = ["SECRET"]',
])('a mistake does not show what is secret: %s', (toml) => {
  const load = () => loadConfig(file('secret.toml', toml), {}, []);
  expect(load).toThrow(expect.objectContaining({ code: 'config-invalid' }));
  expect(load).toThrow(expect.objectContaining({ message: expect.not.stringContaining('SECRET') }));
});

test('printConfig hides tokens and API keys', () => {
  const config = checkConfig(
    {
      core: {
        onboard: { token: 'onboard-secret' },
        admin: { enabled: true, auth_token: 'admin-secret' },
        auth_api: {
          type: 'chain',
          chain: {
            rpc_urls: ['https://rpc.example.com/v2/api-secret'],
            light_client_url: 'https://light.example.com/api-secret',
            kms_contract: `0x${'11'.repeat(20)}`,
          },
        },
      },
    },
    {},
  );
  const text = printConfig(config);
  expect(text).not.toMatch(/secret/);
  expect(JSON.parse(text)).toMatchObject({ core: { onboard: { token: '<hidden>' } } });
});

test.each([
  'rpc.example.com/v2/secret',
  'ftp://user:secret@rpc.example.com',
  'user:secret@rpc.example.com/x',
])('printConfig shows no address that cannot be used: %s', (address) => {
  const kms_contract = `0x${'11'.repeat(20)}`;
  const chain = checkConfig(
    { core: { auth_api: { type: 'chain', chain: { rpc_urls: [address], kms_contract } } } },
    {},
  );
  const webhook = checkConfig({ core: { pccs_url: address, auth_api: { webhook: { url: address } } } }, {});
  for (const config of [chain, webhook]) expect(printConfig(config)).not.toContain('secret');
});

test('a configuration of the original’s newest line is taken without a change', () => {
  const newest = {
    default: { workers: 1, ident: 'DStack KMS', temp_dir: '/tmp', keep_alive: 10, log_level: 'info' },
    rpc: {
      address: '0.0.0.0',
      port: 8000,
      tls: { key: '/etc/kms/certs/rpc.key', certs: '/etc/kms/certs/rpc.crt' },
    },
    core: {
      ...{ cert_dir: '/etc/kms/certs', subject_postfix: '.dstack', site_name: '', attest_rpc_cert: true },
      ...{ enforce_self_authorization: true, sev_snp_key_release: false, aws_nitro_tpm_key_release: false },
      nitro_enclave_key_release: false,
      attestation: {
        insecure_allow_external_trust_anchors: false,
        urls: { pccs: 'https://pccs.example', amd_kds: 'https://kds.example/vcek/v1' },
        root_ca: {},
      },
      admin: { enabled: true, address: '127.0.0.1', port: 8001, auth_token: 'a', htpasswd_file: '' },
      metrics: { enabled: true },
      auth_api: { type: 'webhook', webhook: { url: 'https://auth.example' }, dev: { gateway_app_id: 'any' } },
      onboard: { enabled: true, auto_bootstrap_domain: '', address: '0.0.0.0', port: 8000, auth_token: 'b' },
    },
  };
  const { core, warnings } = checkConfig(newest, {});
  expect(core).toMatchObject({ nitro_enclave_key_release: false, onboard: { token: 'b' } });
  expect(warnings).toEqual([]);
});

describe('tables by app id', () => {
  const app = 'Ab'.repeat(20);
  const check = (core: object) => checkConfig({ core }, { DSTACK_AGENT_ADDRESS: 'unix:/none' }).core;

  test('ids are known by their lower case', () => {
    const core = check({ key_epochs: { [`0x${app}`]: { epoch: 2 } }, key_roots: { [app]: {}, '*': {} } });
    expect(core.key_epochs).toEqual({ [app.toLowerCase()]: { epoch: 2 } });
    expect(Object.keys(core.key_roots)).toEqual([app.toLowerCase(), '*']);
  });

  test.each([
    ['key_epochs', { epoch: 1 }],
    ['key_roots', { previous: [] }],
  ])('%s names each app once, however it is written', (table, entry) => {
    const twice = { [app]: entry, [`0x${app.toLowerCase()}`]: entry };
    expect(() => check({ [table]: twice })).toThrow(/names an app twice/);
  });
});

test('durations and sizes', () => {
  expect(['90s', '2m', '1h30m', '1d', '', '5', 'm'].map(parseDuration)).toEqual([
    90,
    120,
    5400,
    86_400,
    undefined,
    undefined,
    undefined,
  ]);
  expect(['1MiB', '64 KiB', 17, '1MB', '5 bananas'].map(parseSize)).toEqual([
    1 << 20,
    65_536,
    17,
    1_000_000,
    undefined,
  ]);
});

test.each([
  [{}, 1024],
  [{ max_connections: 100 }, 64],
  [{ max_connections: 1000 }, 250],
  [{ max_connections: 100, max_connections_per_address: 100 }, 100],
])('of the connections in %j one address may have %i', (tls, share) => {
  expect(checkConfig({ rpc: { tls } }, {}).rpc.tls.max_connections_per_address).toBe(share);
});

test('nearestKey leaves alone what is far away', () => {
  expect(nearestKey('verfy', ['verify', 'cache_dir'])).toBe('verify');
  expect(nearestKey('zzzzzzzz', ['verify', 'cache_dir'])).toBeUndefined();
});

describe('workers', () => {
  const workers = (raw: object) => checkConfig(raw as Record<string, unknown>, {}).workers;

  test('one for each core, unless the file says otherwise', () => {
    expect(workers({})).toBe(Math.min(64, availableParallelism()));
    expect(workers({ default: { workers: 8 } })).toBe(8);
    expect(workers({ default: { workers: 8 }, rpc: { workers: 3 } })).toBe(3);
    expect(workers({ rpc: { workers: 1 } })).toBe(1);
    expect(JSON.parse(printConfig(checkConfig({ rpc: { workers: 5 } }, {})))).toMatchObject({ workers: 5 });
  });

  test.each([0, -1, 1.5, 65, '2'])('%s is no number of them', (count) => {
    expect(() => workers({ rpc: { workers: count } })).toThrow(/rpc\.workers/);
    expect(() => workers({ default: { workers: count } })).toThrow(/default\.workers/);
  });
});
