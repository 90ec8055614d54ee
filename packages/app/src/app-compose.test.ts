import { describeWithFixtures, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { AppError, assertSupported, DIRECTORY_MACHINE, DISK_MACHINE, parseAppCompose } from './index.ts';

const minimal = '{"manifest_version":2,"name":"x","runner":"docker-compose"}';
const withMember = (member: string) => minimal.replace('}', `,${member}}`);
/** SPKI DER of the base point of P-256 (SEC 2 section 2.4.2). */
const APPROVER =
  '3059301306072a8648ce3d020106082a8648ce3d03010703420004' +
  '6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296' +
  '4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5';
const volume = `{"source":"a","verity_root":"${'0'.repeat(64)}","target":"/x"}`;

/** Texts that the original takes and ours refuses on purpose, with the reason. */
const REFUSED_BY_US = new Map([
  [minimal.replace(':2,', ':" 3",'), 'a blank before the digits is no canonical integer'],
  [
    `{"manifest_version":"3","name":"x","runner":"docker-compose","verity_volumes":[${volume},${volume}]}`,
    'two volumes at one target',
  ],
]);

describeWithFixtures(
  'the parser against the recorded original',
  'guest-original/app-compose-parse.json',
  () => {
    const { cases } = fixtureJson<{ cases: { app_compose: string; accepted: boolean; error?: string }[] }>(
      'guest-original/app-compose-parse.json',
    );
    it.each(cases)('$app_compose', ({ app_compose, accepted }) => {
      const parse = () => parseAppCompose(app_compose);
      if (accepted && !REFUSED_BY_US.has(app_compose)) expect(parse).not.toThrow();
      else expect(parse).toThrow(AppError);
    });
    it('holds all 171 texts and every listed difference', () => {
      expect(cases).toHaveLength(171);
      const accepted = new Set(cases.filter((one) => one.accepted).map((one) => one.app_compose));
      for (const text of REFUSED_BY_US.keys()) expect(accepted).toContain(text);
    });
  },
);

describe('parseAppCompose', () => {
  it('fills in the defaults', () => {
    expect(parseAppCompose(minimal)).toMatchObject({
      manifestVersion: 2,
      publicLogs: false,
      publicSysinfo: false,
      publicTcbinfo: true,
      gatewayEnabled: false,
      keyProvider: 'none',
      keyProviderId: new Uint8Array(0),
      allowedEnvs: [],
      noInstanceId: false,
      secureTime: true,
      swapSize: 0n,
      preLaunchScript: undefined,
      initScripts: [],
      eventLogVersion: 1,
    });
  });

  it.each([
    ['"kms_enabled":true', 'kms'],
    ['"local_key_provider_enabled":true', 'local'],
    ['"kms_enabled":true,"local_key_provider_enabled":true', 'kms'],
    ['"kms_enabled":true,"key_provider":"none"', 'none'],
    ['"kms_enabled":true,"key_provider":null', 'kms'],
    ['"key_provider":"tpm"', 'tpm'],
  ])('takes the provider from %s', (members, kind) => {
    expect(parseAppCompose(withMember(members)).keyProvider).toBe(kind);
  });

  it.each([
    ['0', 0n],
    ['"0x400"', 1024n],
    ['"4G"', 4n << 30n],
    ['"2t"', 2n << 40n],
    ['18446744073709551615', 2n ** 64n - 1n],
  ])('reads swap_size %s', (text, bytes) => {
    expect(parseAppCompose(withMember(`"swap_size":${text}`)).swapSize).toBe(bytes);
  });

  it.each(['18446744073709551616', '"99999999999T"', '"0x"', '"1 G"'])('refuses swap_size %s', (text) => {
    expect(() => parseAppCompose(withMember(`"swap_size":${text}`))).toThrow(/swap_size/);
  });

  it('keeps an empty pre_launch_script apart from none', () => {
    expect(parseAppCompose(withMember('"pre_launch_script":""')).preLaunchScript).toBe('');
  });

  it('turns the gateway on by either older name', () => {
    for (const member of ['"gateway_enabled":true', '"tproxy_enabled":true', '"features":["tproxy-net"]']) {
      expect(parseAppCompose(withMember(member)).gatewayEnabled).toBe(true);
    }
  });

  it('refuses bytes that are not UTF-8, deep nesting and repeated members at any depth', () => {
    expect(() => parseAppCompose(Uint8Array.of(0x7b, 0xff, 0x7d))).toThrow(AppError);
    expect(() => parseAppCompose(withMember(`"z":${'['.repeat(5000)}${']'.repeat(5000)}`))).toThrow(/Nested/);
    expect(() => parseAppCompose(withMember('"z":{"a":1,"a":2}'))).toThrow(/Repeated member/);
  });
});

describe('assertSupported', () => {
  it.each([
    [minimal.replace(':2,', ':"4",'), /manifest_version 4/],
    [minimal.replace('docker-compose', 'foo'), /unsupported runner: foo/],
    [withMember('"storage_fs":"xfs"'), /storage_fs/],
    [withMember('"requirements":{}'), /requirements/],
  ])('refuses %s', (text, message) => {
    expect(() => assertSupported(parseAppCompose(text), DIRECTORY_MACHINE)).toThrow(message);
  });
  const file = '"docker_compose_file":"services: {}"';
  it.each([
    withMember(file),
    withMember(`${file},"storage_fs":"ZFS"`),
    withMember(`${file},"features":["tproxy-net"],"gateway_enabled":false`).replace('"tproxy-net"', ''),
    withMember(`${file},"docker_config":{},"bash_script":"","swap_size":"0","verity_volumes":[]`),
    withMember(`${file},"port_policy":{"ports":[],"restrict_mode":false},"init_script":["a","b"]`),
    withMember(`${file},"launch_token_hash":"00","salt":"x"`),
    withMember(`${file},"key_provider":"tpm","seal_approval_key":"${APPROVER}"`),
    withMember('"bash_script":"","docker_compose_file":""').replace('docker-compose"', 'bash"'),
  ])('takes %s', (text) => {
    expect(() => assertSupported(parseAppCompose(text), DIRECTORY_MACHINE)).not.toThrow();
  });

  it.each([
    ['runner', `${file},"runner":"nerdctl-compose"`],
    ['snapshotter', `${file},"snapshotter":"overlayfs"`],
    ['docker_compose_file', '"x":0'],
    ['docker_compose_file', '"docker_compose_file":" \\n"'],
    ['docker_compose_file', `${file},"runner":"bash","bash_script":"x"`],
    ['bash_script', '"runner":"bash"'],
    ['bash_script', `${file},"bash_script":"x"`],
    ['features', `${file},"features":["kms"]`],
    ['docker_config', `${file},"docker_config":{"registry":"r"}`],
    ['docker_config', `${file},"docker_config":"r"`],
    ['gateway_enabled', `${file},"gateway_enabled":true`],
    ['gateway_enabled', `${file},"tproxy_enabled":true`],
    ['gateway_enabled', `${file},"features":["tproxy-net"]`],
    ['port_policy', `${file},"port_policy":{"restrict_mode":true}`],
    ['port_policy', `${file},"port_policy":{"ports":[{"port":80}]}`],
    ['swap_size', `${file},"swap_size":"1G"`],
    ['verity_volumes', `${file},"verity_volumes":[${volume}]`],
    ['seal_approval_key', `${file},"seal_approval_key":"${APPROVER}"`],
    ['seal_approval_key', `${file},"key_provider":"tpm","seal_approval_key":"${APPROVER.slice(2)}"`],
    ['seal_approval_key', `${file},"key_provider":"tpm","seal_approval_key":"${'00'.repeat(91)}"`],
    [
      'seal_approval_key',
      `${file},"key_provider":"tpm","seal_approval_key":"${APPROVER.slice(0, -64)}${'00'.repeat(32)}"`,
    ],
  ])('refuses %s that no guest of this version does: %s', (member, members) => {
    const base = members.includes('"runner"') ? '{"manifest_version":2,"name":"x"}' : minimal;
    const compose = parseAppCompose(base.replace('}', `,${members}}`));
    const refusal = { code: 'app-compose-unsupported', message: expect.stringMatching(`json: ${member}: `) };
    expect(() => assertSupported(compose, DIRECTORY_MACHINE)).toThrow(expect.objectContaining(refusal));
  });

  it('has a gateway on a machine that makes tunnels, with the keys and the id by which gateways know it', () => {
    const check = (members: string) => () =>
      assertSupported(
        parseAppCompose(
          `{"manifest_version":2,"name":"x","runner":"docker-compose","docker_compose_file":"services: {}","storage_fs":"ext4",${members}}`,
        ),
        DISK_MACHINE,
      );
    const policy = '"port_policy":{"ports":[{"port":80,"pp":true}],"restrict_mode":true}';
    expect(check(`"key_provider":"kms","gateway_enabled":true,${policy}`)).not.toThrow();
    expect(check('"kms_enabled":true,"tproxy_enabled":true')).not.toThrow();
    expect(check('"gateway_enabled":true')).toThrow(/gateway_enabled: .*key service/);
    expect(check('"key_provider":"kms","gateway_enabled":true,"no_instance_id":true')).toThrow(/instance id/);
    expect(check(`"key_provider":"kms",${policy}`)).toThrow(/port_policy: only a gateway/);
    expect(check('"key_provider":"kms","gateway_enabled":true,"port_policy":{"ports":[{"port":0}]}')).toThrow(
      /port_policy: ports are/,
    );
  });

  it('reads what newer releases demand, does nothing for who demands nothing, and refuses the rest by name', () => {
    const check = (requirements: object) => () =>
      assertSupported(
        parseAppCompose(
          JSON.stringify({
            ...{
              manifest_version: '3',
              name: 'x',
              runner: 'docker-compose',
              docker_compose_file: 'services: {}',
            },
            requirements,
          }),
        ),
        DIRECTORY_MACHINE,
      );
    expect(check({ health_check: false })).not.toThrow();
    expect(check({ health_check: null, health_status_file: null })).not.toThrow();
    expect(check({ health_check: true })).toThrow(/requirements\.health_check: this guest reports no health/);
    expect(check({ health_status_file: '/dstack/health' })).toThrow(/requirements\.health_status_file/);
    expect(check({ health_check: 'yes' })).toThrow(expect.objectContaining({ code: 'app-compose-invalid' }));
  });

  it.each([
    [{ healthcheck: true }, /requirements: unknown member healthcheck; did you mean health_check\?/],
    [{ os_versions: '*' }, /did you mean os_version\?/],
    [{ gpu_policy: { allow_debugger: true } }, /requirements\.gpu_policy: .*did you mean allow_debug\?/],
    [{ constructor: 1 }, /unknown member constructor/],
    [{ zzzzzzzzz: 1 }, /unknown member zzzzzzzzz$/],
  ])('an unknown demand is an error that names the nearest known one: %j', (requirements, message) => {
    const text = JSON.stringify({ manifest_version: '3', name: 'x', runner: 'bash', requirements });
    expect(() => parseAppCompose(text)).toThrow(message);
  });

  it('takes swap and refuses the file system that its kernel lacks, on a machine of the OS image', () => {
    const compose = (members: string) => parseAppCompose(withMember(`${file},${members}`));
    expect(() =>
      assertSupported(compose('"storage_fs":"ext4","swap_size":"1G"'), DISK_MACHINE),
    ).not.toThrow();
    for (const members of ['"swap_size":0', '"storage_fs":"zfs"'])
      expect(() => assertSupported(compose(members), DISK_MACHINE)).toThrow(
        expect.objectContaining({
          message: expect.stringMatching(/storage_fs: the kernel/),
          expected: 'ext4',
        }),
      );
  });

  it('names every member that it refuses, not only the first', () => {
    const compose = parseAppCompose(withMember(`${file},"swap_size":1,"features":["x"]`));
    expect(() => assertSupported(compose, DIRECTORY_MACHINE)).toThrow(
      /features: .*\(also refused: swap_size\)/,
    );
  });
});
