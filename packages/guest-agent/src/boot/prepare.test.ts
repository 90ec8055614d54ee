import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { asAppId, composeHash, mrConfigIdV1, mrConfigIdV2, parseAppKeys } from '@dstack-cloud/app';
import { decodeAttestation } from '@dstack-cloud/attestation';
import { fromHex, utf8 } from '@dstack-cloud/encoding';
import { encryptEnv, x25519PublicKey } from '@dstack-cloud/keys';
import { errorChain } from '@dstack-cloud/runtime';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { parseGuestConfig } from '../config/guest-config.ts';
import { type FakeKms, startFakeKms } from '../test/fake-kms.ts';
import { SoftwareDevice } from '../test/software-device.ts';
import type { MachineSteps } from './machine-steps.ts';
import { type Prepared, prepare } from './prepare.ts';

const APP_ID = '11'.repeat(20);
const SEED = '22'.repeat(20);
const BEFORE_KEYS = ['system-preparing', 'app-id', 'compose-hash', 'instance-id', 'boot-mr-done'];

let root = '';
let device: SoftwareDevice;
let notified: [string, string][] = [];
const opened: FakeKms[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'dstack-boot-'));
  device = new SoftwareDevice();
  notified = [];
  mkdirSync(join(root, 'tmp/.host-shared'), { recursive: true });
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true, force: true });
  for (const kms of opened.splice(0)) kms.close();
});

const kms = async (...options: Parameters<typeof startFakeKms>): Promise<FakeKms> => {
  const started = await startFakeKms(...options);
  opened.push(started);
  return started;
};
const share = (name: string, content: string | Uint8Array): void =>
  writeFileSync(join(root, 'tmp/.host-shared', name), content);
const shareApp = (members: object = {}, kmsUrls: string[] = []): Uint8Array => {
  const compose = JSON.stringify({
    manifest_version: 2,
    name: 'x',
    runner: 'docker-compose',
    docker_compose_file: 'services: {a: {command: x}}',
    secure_time: false,
    ...members,
  });
  share('app-compose.json', compose);
  share('.sys-config.json', JSON.stringify({ kms_urls: kmsUrls, vm_config: '{"os_image_hash":""}' }));
  share('.instance_info', JSON.stringify({ app_id: APP_ID, instance_id_seed: SEED }));
  return utf8(compose);
};
const boot = (config: object = {}, machine?: MachineSteps): Promise<Prepared> =>
  prepare({
    ...(machine && { machine }),
    config: parseGuestConfig(JSON.stringify({ root, require_kms_attestation: false, ...config }), root),
    openDevice: () => Promise.resolve(device),
    notify: (event, payload) => {
      notified.push([event, payload]);
      return Promise.resolve();
    },
    log: pino({ level: 'silent' }),
  });
const written = (name: string): string => join(root, 'dstack/.host-shared', name);

describeWithFixtures('boot', 'simulator/attestation.bin', () => {
  it('without a provider: events in order, files private, links made', async () => {
    const bytes = shareApp({ storage_fs: 'EXT4' });
    share('.user-config', 'anything');
    await boot();
    expect(device.names).toEqual([...BEFORE_KEYS, 'key-provider', 'storage-fs', 'system-ready']);
    const payload = (name: string) =>
      device.emitted.find(({ event }) => event === name)?.payload ?? new Uint8Array();
    expect(payload('compose-hash')).toEqual(composeHash(bytes));
    // Without the KMS nobody checks a configured app id: the measured one is that of the compose file.
    expect(payload('app-id')).toEqual(composeHash(bytes).slice(0, 20));
    expect(new TextDecoder().decode(payload('key-provider'))).toBe('{"name":"none","id":""}');
    expect(new TextDecoder().decode(payload('storage-fs'))).toBe('ext4');
    for (const name of [
      '.appkeys.json',
      '.decrypted-env',
      '.decrypted-env.json',
      'app-compose.json',
      '.user-config',
    ]) {
      expect(statSync(written(name)).mode & 0o777, name).toBe(0o600);
    }
    expect(parseAppKeys(readFileSync(written('.appkeys.json'))).keyProvider.kind).toBe('none');
    expect(readlinkSync(join(root, 'dstack/user_config'))).toBe(written('.user-config'));
    expect(JSON.parse(readFileSync(join(root, 'dstack/agent.json'), 'utf8'))).toEqual({
      default: { core: { pccs_url: null, data_disks: ['/', join(root, 'dstack/persistent')] } },
    });
    expect(notified.map(([event]) => event)).toContain('instance.info');
  });

  it('leaves nothing of an earlier boot: keys, environment, user configuration', async () => {
    shareApp();
    share('.user-config', 'of the first boot');
    await boot();
    expect(existsSync(written('.user-config'))).toBe(true);
    writeFileSync(written('.decrypted-env'), 'SECRET=of the first boot');
    writeFileSync(written('.encrypted-env'), 'of the first boot');

    // The next boot has no user configuration and no environment.
    device = new SoftwareDevice();
    rmSync(join(root, 'tmp/.host-shared/.user-config'));
    await boot();
    expect(existsSync(written('.user-config'))).toBe(false);
    expect(existsSync(written('.encrypted-env'))).toBe(false);
    expect(existsSync(join(root, 'dstack/user_config'))).toBe(false);
    expect(readFileSync(written('.decrypted-env'), 'utf8')).not.toContain('first');
  });

  it.each([
    ['an application that is refused', () => shareApp({ key_provider: 'kms' }, ['https://localhost:1'])],
    ['host-shared files that are damaged', () => share('app-compose.json', '{')],
    ['a file that is too large', () => share('.user-config', new Uint8Array((1 << 20) + 1))],
  ])('a boot that fails by %s leaves none of them either', async (_name, spoil) => {
    shareApp();
    share('.user-config', 'of the first boot');
    await boot();
    device = new SoftwareDevice();
    spoil();
    await expect(boot()).rejects.toThrow();
    for (const name of ['.appkeys.json', '.decrypted-env', '.decrypted-env.json', '.user-config'])
      expect(existsSync(written(name)), name).toBe(false);
  });

  it('removes and writes nothing through a folder that is a link', async () => {
    shareApp();
    const other = join(root, 'other');
    mkdirSync(other);
    writeFileSync(join(other, '.appkeys.json'), 'of somebody else');
    mkdirSync(join(root, 'dstack'));
    symlinkSync(other, join(root, 'dstack/.host-shared'));
    await expect(boot()).rejects.toMatchObject({ code: 'host-shared-invalid' });
    expect(readdirSync(other)).toEqual(['.appkeys.json']);
  });

  it('with a KMS: keys, identities and the events after them', async () => {
    const { url, rootSpki, calls } = await kms();
    shareApp({ key_provider: 'kms', allowed_envs: ['TOKEN'] }, [url]);
    const vars = [
      { key: 'TOKEN', value: 's3 cr\n3t' },
      { key: 'OTHER', value: 'dropped' },
    ];
    share('.encrypted-env', encryptEnv(vars, x25519PublicKey(new Uint8Array(32).fill(2))));
    const { identities } = await boot();
    expect(identities.appId).toEqual(asAppId(APP_ID));
    expect(device.names).toEqual([
      ...BEFORE_KEYS,
      'os-image-hash',
      'key-provider',
      'storage-fs',
      'system-ready',
    ]);
    expect(calls).toEqual(['GetTempCaCert', 'GetAppKey attested']);
    expect(parseAppKeys(readFileSync(written('.appkeys.json')))).toMatchObject({
      gatewayAppId: 'gw',
      keyProvider: { kind: 'kms', url: `${url}/prpc`, pubkey: rootSpki },
    });
    expect(JSON.parse(readFileSync(written('.decrypted-env.json'), 'utf8'))).toEqual({ TOKEN: 's3 cr\n3t' });
    expect(readFileSync(written('.decrypted-env'), 'utf8')).toBe('TOKEN="s3 cr\n3t"\n');
  });

  const refusal = 'Boot denied: Compose hash not allowed';
  it('a refusal reaches the caller in the words of the KMS and measures nothing', async () => {
    const { url } = await kms({ refuse: refusal });
    shareApp({ key_provider: 'kms' }, [url]);
    const error = await boot().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'kms-refused' });
    expect(errorChain(error)).toContain(refusal);
    expect(device.names).toEqual(BEFORE_KEYS);
    expect(existsSync(written('.appkeys.json'))).toBe(false);
  });

  it.each([
    { refuseCode: 'UNAVAILABLE' },
    { refuseCode: 'RATE_LIMITED' },
    { refuseStatus: 408 },
    { refuseStatus: 503 },
  ] as const)('a KMS that answers %o has denied nothing', async (how) => {
    const { url } = await kms({ refuse: 'Boot denied: authorization backend unavailable', ...how });
    shareApp({ key_provider: 'kms' }, [url]);
    const error = await boot().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'kms-unavailable', message: expect.stringContaining('no denial') });
    expect(errorChain(error)).toContain('Boot denied: authorization backend unavailable');
    expect(device.names).toEqual(BEFORE_KEYS);
  });

  it('the next KMS is asked when one fails, without a trace of the failure', async () => {
    const [refusing, giving] = [await kms({ refuse: refusal }), await kms()];
    shareApp({ key_provider: 'kms' }, ['https://localhost:9', refusing.url, giving.url]);
    await boot();
    expect(device.names).toEqual([
      ...BEFORE_KEYS,
      'os-image-hash',
      'key-provider',
      'storage-fs',
      'system-ready',
    ]);
  });

  it.each([
    ['an application certificate as KMS', { usage: 'app:custom' }, {}, {}, 'kms-untrusted'],
    ['a KMS without evidence, by default', {}, {}, { require_kms_attestation: true }, 'kms-untrusted'],
    [
      'another KMS than the pinned one',
      {},
      { key_provider_id: '30'.repeat(91) },
      {},
      'key-provider-mismatch',
    ],
  ])('refuses %s', async (_, behaviour, members, config, code) => {
    const { url } = await kms(behaviour);
    shareApp({ key_provider: 'kms', ...members }, [url]);
    await expect(boot(config)).rejects.toMatchObject({ code });
    expect(device.names).toEqual(BEFORE_KEYS);
  });

  it.each([
    ['no KMS URL', []],
    ['a KMS that is down', ['https://localhost:9']],
  ])('%s is unreachable', async (_, urls) => {
    shareApp({ key_provider: 'kms' }, urls);
    await expect(boot()).rejects.toMatchObject({ code: 'kms-unreachable' });
  });

  it.each(['local', 'tpm'])(
    'key provider %s is refused clearly where there is none',
    async (key_provider) => {
      shareApp({ key_provider });
      await expect(boot()).rejects.toMatchObject({ code: 'key-provider-unsupported' });
    },
  );

  it('MRCONFIGID of this application boots, of another one does not', async () => {
    const hash = composeHash(shareApp());
    device.mrConfigId = mrConfigIdV1(hash);
    await boot();
    device = new SoftwareDevice();
    device.mrConfigId = mrConfigIdV1(composeHash(utf8('another')));
    await expect(boot()).rejects.toMatchObject({ code: 'mr-config-id-mismatch' });
    expect(existsSync(written('.appkeys.json'))).toBe(false);
    const none = { keyProvider: 'none', keyProviderId: new Uint8Array(0) } as const;
    device = new SoftwareDevice();
    device.mrConfigId = mrConfigIdV2({ composeHash: hash, appId: asAppId(hash.slice(0, 20)), ...none });
    await boot();
  });

  it('a pinned provider with no provider is refused', async () => {
    shareApp({ key_provider_id: '00' });
    await expect(boot()).rejects.toMatchObject({ code: 'key-provider-mismatch' });
  });

  it('an environment that cannot be opened ends the boot', async () => {
    shareApp({ allowed_envs: ['A'] });
    share('.encrypted-env', 'x');
    await expect(boot()).rejects.toMatchObject({ code: 'env-undecryptable' });
    const { url } = await kms();
    shareApp({ key_provider: 'kms', allowed_envs: ['A'] }, [url]);
    device = new SoftwareDevice();
    await expect(boot()).rejects.toMatchObject({ code: 'env-undecryptable' });
  });

  it('init scripts run in their order when the disk is ready, each measured and with nothing secret', async () => {
    const { url } = await kms();
    share(
      '.encrypted-env',
      encryptEnv([{ key: 'TOKEN', value: 's3' }], x25519PublicKey(new Uint8Array(32).fill(2))),
    );
    const scripts = [
      'echo "one $TOKEN$LEFT" >> ran; LEFT=1; ls persistent >> ran',
      'echo "two $TOKEN$LEFT" >> ran',
    ];
    shareApp({ key_provider: 'kms', allowed_envs: ['TOKEN'], init_script: scripts }, [url]);
    await boot();
    expect(device.names.filter((name) => name === 'init-script-hash')).toHaveLength(2);
    expect(readFileSync(join(root, 'dstack/ran'), 'utf8')).toBe('one \ntwo \n');
    expect(notified).toContainEqual(['boot.progress', 'init-script']);
  });

  it.each([
    ['', []],
    ['touch ran', ['init script']],
  ])(
    'a machine of its own gives its disks back, and starts Docker on the open disk (init script %j)',
    async (script, ran) => {
      const steps: string[] = [];
      const machine: MachineSteps = {
        attachShared: async () => void steps.push(`attach, ${device.names.length} events`),
        detachShared: async () => void steps.push(`detach, ${device.names.length} events`),
        startEngine: async ({ vmConfig }) => {
          if (existsSync(join(root, 'dstack/ran'))) steps.push('init script');
          steps.push(`engine of ${vmConfig}, disk ${existsSync(join(root, 'dstack/persistent'))}`);
        },
      };
      shareApp(script === '' ? {} : { init_script: script });
      await boot({}, machine);
      const files = ['attach, 0 events', 'detach, 0 events'];
      expect(steps).toEqual([...files, ...ran, 'engine of {"os_image_hash":""}, disk true']);
      device = new SoftwareDevice();
      steps.length = 0;
      share('app-compose.json', '{');
      await expect(boot({}, machine)).rejects.toMatchObject({ code: 'host-shared-invalid' });
      expect(steps).toEqual(files);
    },
  );

  it.each(['exit 0', 'false', 'if'])('the init script %j ends the boot', async (init_script) => {
    shareApp({ init_script: ['true', init_script, 'touch ran'] });
    await expect(boot()).rejects.toMatchObject({ code: 'init-script-failed' });
    expect(existsSync(join(root, 'dstack/ran'))).toBe(false);
  });

  it('no_instance_id leaves the instance id empty', async () => {
    shareApp({ no_instance_id: true });
    const { identities } = await boot();
    expect(identities.instanceId).toHaveLength(0);
    expect(device.emitted.find(({ event }) => event === 'instance-id')?.payload).toHaveLength(0);
  });

  it('a machine is prepared once per boot', async () => {
    shareApp();
    await boot();
    await expect(boot()).rejects.toMatchObject({ code: 'already-measured' });
  });

  it.each([0, 3, 6])('a device that fails at event %d ends the boot', async (failAt) => {
    shareApp();
    device.failAt = failAt;
    await expect(boot()).rejects.toMatchObject({ code: 'evidence-failed' });
  });

  it('the files of an earlier boot are replaced whole', async () => {
    shareApp({ note: 'a much longer file than the next one '.repeat(20) });
    await boot();
    device = new SoftwareDevice();
    const bytes = shareApp();
    await boot();
    expect(readFileSync(written('app-compose.json'))).toEqual(Buffer.from(bytes));
  });

  it.each([
    ['a missing file', () => rmSync(join(root, 'tmp/.host-shared/app-compose.json')), /does not exist/],
    [
      'a file that is too large',
      () => share('.sys-config.json', ' '.repeat(32 * 1024 + 1)),
      /max size is 32768 bytes/,
    ],
    ['no JSON', () => share('app-compose.json', '{'), /app-compose.json/],
    ['a newer manifest', () => shareApp({ manifest_version: '9' }), /manifest_version 9/],
    ['an unknown runner', () => shareApp({ runner: 'foo' }), /unsupported runner: foo/],
    ['a member that nobody does', () => shareApp({ port_policy: { restrict_mode: true } }), /port_policy/],
    [
      'scripts without a shell',
      () => {
        shareApp({ init_script: 'x' });
        vi.stubEnv('PATH', join(root, 'nothing'));
      },
      /no bash/,
    ],
    [
      'an unmet requirement',
      () => shareApp({ manifest_version: '3', requirements: { platforms: ['dstack-gcp-tdx'] } }),
      /platform/,
    ],
  ])('refuses %s before anything is measured', async (_, spoil, message) => {
    shareApp();
    spoil();
    await expect(boot()).rejects.toThrow(message);
    expect(device.names).toEqual([]);
  });
});

const NEWER = 'interop-original/gpu-policy-hash';
describeWithFixtures('files of the original’s newer line', `${NEWER}/attestation.v0.bin`, () => {
  const file = (name: string): Uint8Array => fixture(`${NEWER}/host-shared/${name}`);
  /** Its files, with our KMS in the place of the one whose keys nobody has. */
  const shareThem = (kmsUrl: string): void => {
    for (const name of ['app-compose.json', '.instance_info', '.user-config']) share(name, file(name));
    const sys = fixtureJson<object>(`${NEWER}/host-shared/.sys-config.json`);
    share('.sys-config.json', JSON.stringify({ ...sys, kms_urls: [kmsUrl] }));
  };

  it('boot our guest, which measures what theirs measured', async () => {
    const { url } = await kms();
    shareThem(url);
    const sealed = encryptEnv([{ key: 'SECRET', value: 's3' }], x25519PublicKey(new Uint8Array(32).fill(2)));
    share('.encrypted-env', sealed);
    await boot();
    expect(JSON.parse(readFileSync(written('.decrypted-env.json'), 'utf8'))).toEqual({ SECRET: 's3' });
    const theirs = decodeAttestation(fixture(`${NEWER}/attestation.v0.bin`)).runtimeEvents;
    for (const name of ['app-id', 'compose-hash', 'instance-id']) {
      const payload = (events: typeof theirs) => events.find(({ event }) => event === name)?.payload;
      expect(payload(device.emitted), name).toBeDefined();
      expect(payload(device.emitted), name).toEqual(payload(theirs));
    }
    expect(device.emitted.find(({ event }) => event === 'app-id')?.payload).toEqual(fromHex('a1'.repeat(20)));
  });

  it('need the keys that their environment was sealed for', async () => {
    const { url } = await kms();
    shareThem(url);
    share('.encrypted-env', file('.encrypted-env'));
    await expect(boot()).rejects.toMatchObject({ code: 'env-undecryptable' });
    expect(existsSync(written('.decrypted-env'))).toBe(false);
  });
});
