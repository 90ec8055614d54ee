import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig, parseConfig, shownConfig } from './load-config.ts';

const refused = (message: RegExp) =>
  expect.objectContaining({ code: 'bad_config', message: expect.stringMatching(message) });
const TOKEN = 'a-token-of-twenty-ch';

describe('vmm.toml', () => {
  it.each([
    ['a key with a typing error', 'adress = "x"', /adress: unknown key; did you mean "address"\?/],
    [
      'a nested one',
      '[cvm.port_mapping]\nenable = true',
      /cvm\.port_mapping\.enable: unknown key; did you mean "enabled"/,
    ],
    ['an address without credentials', 'address = "127.0.0.1"', /reachable by others/],
    ['credentials that are not in force', `[auth]\ntokens = ["${TOKEN}"]`, /auth\.enabled: is false though/],
    ['authentication that lets nobody in', '[auth]\nenabled = true', /nobody could get in/],
    ['a short token', '[auth]\nenabled = true\ntokens = ["short"]', /auth\.tokens\.0: is not accepted/],
    [
      'an address of the network without TLS',
      `address = "0.0.0.0"\n[auth]\nenabled = true\ntokens = ["${TOKEN}"]`,
      /would cross the network readable/,
    ],
    ['half of a key pair', '[tls]\nkey = "x"', /belong together/],
    ['TLS on a Unix socket', '[tls]\nkey = "x"\ncerts = "y"', /a Unix socket has no TLS/],
    ['a bridge without name', '[cvm.networking]\nmode = "bridge"', /needs the name of a bridge/],
    [
      'QEMU options in a bridge',
      '[cvm.networking]\nbridge = "br0,script=/x"',
      /must be the name of a bridge/,
    ],
    [
      'a range upside down',
      '[[cvm.port_mapping.range]]\nprotocol = "tcp"\nfrom = 9\nto = 8',
      /from is above to/,
    ],
    [
      'a networking mode of the original that is not here',
      '[cvm.networking]\nmode = "passt"',
      /cvm\.networking\.mode/,
    ],
    [
      'a GPU that is no address',
      '[cvm.gpu]\nexclude = ["18:00.0,x=y"]',
      /cvm\.gpu\.exclude\.0: must be the address/,
    ],
    ['a product that is none', '[cvm.gpu]\nlisting = ["H200"]', /cvm\.gpu\.listing\.0/],
    ['guests that would not be confined', '[cvm.networking]\nrestrict = true', /restrict: can only be false/],
    [
      'a network that QEMU would not have',
      '[cvm.networking]\nnet = "10.9.0.0/24"',
      /net: can only be 10\.0\.2/,
    ],
    ['a key provider that would be asked all the same', '[key_provider]\nenabled = false', /only be true/],
    [
      'one elsewhere',
      '[key_provider]\naddress = "10.0.0.1"\nport = 1',
      /127\.0\.0\.1\n.*port: can only be 3443/,
    ],
    ['no TOML', 'address = ', /vmm\.toml: /],
    ['a name with markup', 'node_name = "<b>"', /node_name/],
  ])('refuses %s', (_name, text, message) => {
    expect(() => parseConfig(text, 'vmm.toml')).toThrow(refused(message));
  });

  it('shows no secret, neither in errors nor when it is printed', () => {
    for (const text of [
      `[auth]\nenabled = true\ntokens = ["${TOKEN}", "secret"]`,
      `[auth]\nenabled = true\ntokens = "${TOKEN}"`,
      `[auth]\ntokens = ["${TOKEN}"`,
    ])
      expect(() => parseConfig(text, 'vmm.toml')).toThrow(
        expect.objectContaining({ message: expect.not.stringMatching(new RegExp(`${TOKEN}|"secret"`)) }),
      );
    const config = parseConfig(`[auth]\nenabled = true\ntokens = ["${TOKEN}"]`, 'vmm.toml');
    expect(JSON.stringify(shownConfig(config))).not.toContain(TOKEN);
    const url = `"https://user:${TOKEN}@host.example/${TOKEN}?key=${TOKEN}"`;
    const urls = `kms_url = ${url}\n[cvm]\nkms_urls = [${url}]\ngateway_urls = [${url}]\npccs_url = ${url}\ndocker_registry = ${url}`;
    const shown = JSON.stringify(shownConfig(parseConfig(urls, 'vmm.toml')));
    expect(shown.split('"https://host.example"')).toHaveLength(6);
    expect(shown).not.toContain(TOKEN);
  });

  it('takes paths relative to its own folder, and defaults where there is none', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmm-config-'));
    try {
      const file = join(folder, 'vmm.toml');
      writeFileSync(file, 'run_path = "machines"\naddress = "unix:vmm.sock"\n');
      expect(await loadConfig(file)).toMatchObject({
        run_path: join(folder, 'machines'),
        address: `unix:${join(folder, 'vmm.sock')}`,
      });
      expect((await loadConfig(undefined, { standardFiles: [join(folder, 'none')] })).cvm.cid_start).toBe(
        1000,
      );
      await expect(loadConfig(join(folder, 'none'))).rejects.toMatchObject({ code: 'bad_config' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('of the original loads', () => {
    const text = `workers = 8\nmax_blocking = 64\nident = "dstack VMM"\ntemp_dir = "/tmp"\nkeep_alive = 10
log_level = "debug"\naddress = "unix:./vmm.sock"\nreuse = true\nkms_url = "http://127.0.0.1:8081"\nevent_buffer_size = 20
node_name = ""\n[cvm]\nqemu_path = ""\nkms_urls = ["http://127.0.0.1:8081"]\ncid_start = 1000\ncid_pool_size = 1000
max_allocable_vcpu = 20\nmax_allocable_memory_in_mb = 100_000\nqgs_port = 4050\n[cvm.networking]\nmode = "user"
net = "10.0.2.0/24"\ndhcp_start = "10.0.2.10"\nrestrict = false\n[cvm.port_mapping]\nenabled = false\naddress = "127.0.0.1"
range = [{ protocol = "tcp", from = 1, to = 20000 }]\n[cvm.auto_restart]\nenabled = true\ninterval = 20
[gateway]\nbase_domain = "localhost"\nport = 8082\nagent_port = 8090\n[auth]\nenabled = false\ntokens = []
[supervisor]\nexe = "./supervisor"\nsock = "./run/supervisor.sock"\ndetached = false\nauto_start = true
[host_api]\nident = "dstack VMM"\naddress = "vsock:2"\nport = 10000\n[key_provider]\nenabled = true\naddress = "127.0.0.1"\nport = 3443\n`;
    expect(parseConfig(text, 'vmm.toml').kms_url).toBe('http://127.0.0.1:8081');
  });
});
