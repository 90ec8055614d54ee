import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Sandbox } from './testing.ts';

let box: Sandbox;
beforeEach(() => {
  box = new Sandbox();
});
afterEach(() => box.remove());

describe('help and version', () => {
  it('prints the table of commands', async () => {
    const { code, stdout } = await box.run('--help');
    expect(code).toBe(0);
    expect(stdout).toMatchSnapshot();
    expect(await box.run()).toMatchObject({ code: 0 });
  });

  it.each(['new', 'deploy', 'logs', 'verify', 'list', 'remove'])('prints the options of %s', async (name) => {
    const { code, stdout } = await box.run(name, '--help');
    expect(code).toBe(0);
    expect(stdout).toMatchSnapshot();
  });

  it('prints its version', async () => {
    expect(await box.run('--version')).toMatchObject({ code: 0, stdout: '0.1.0\n' });
  });

  it.each([['fw'], ['app'], ['env']])('prints help for bare %s and exits 0', async (name) => {
    expect((await box.run(name)).code).toBe(0);
  });
});

describe('exit codes', () => {
  it.each([
    ['an unknown command', ['nosuch'], 2],
    ['an unknown option', ['status', '--nosuch'], 2],
    ['a missing argument', ['new'], 2],
    ['a global flag without value', ['status', '-C'], 2],
    ['a bad number', ['logs', '-n', 'ten'], 2],
    ['no project', ['deploy'], 1],
    ['no project, --exit-code', ['--exit-code', 'status'], 3],
    ['a rule without a project', ['fw', 'allow', '80', '-s', '10.0.0.0/8'], 1],
    ['a port that is none', ['fw', 'allow', 'http'], 2],
    ['an image without a version', ['pull', '--os-image', 'dstack'], 2],
    ['verify without subject', ['verify'], 2],
    ['verify of a missing file', ['verify', 'nosuch.json'], 1],
  ])('%s', async (_name, argv, code) => {
    const outcome = await box.run(...argv);
    expect(outcome.code).toBe(code);
    expect(outcome.stderr).toMatch(/^[Ee]rror: /);
  });

  it.each([
    ['destroy', 'remove'],
    ['up', 'deploy'],
  ])('%s suggests %s', async (name, instead) => {
    const { code, stderr } = await box.run(name);
    expect(code).toBe(2);
    expect(stderr).toContain(`Next: dstack-cloud ${instead}\n`);
  });

  it.each([
    ['an unknown command', ['nosuch', '--json']],
    ['an unknown option', ['--json', 'status', '--nosuch']],
    ['a missing argument', ['new', '--json']],
    ['a global flag without value', ['--json', 'status', '-C']],
    ['a value that is no choice', ['new', 'x', '--fs', 'ntfs', '--json']],
    ['a bad number', ['logs', '-n', 'ten', '--json']],
  ])('%s is JSON with --json', async (_name, argv) => {
    const { code, stdout } = await box.run(...argv);
    expect(code).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({
      error: {
        code: expect.stringMatching(/^(usage|bad_argument)$/),
        message: expect.not.stringMatching(/^error/),
      },
    });
  });

  it('takes no inherited name for a flag', async () => {
    await box.run('new', 'app', '--platform', 'local');
    for (const name of ['constructor', 'toString', 'hasOwnProperty']) {
      writeFileSync(box.path('app/.env'), `${name}=1\n`);
      expect((await box.run('-C', 'app', 'env', 'unset', name)).stdout).toBe(`Removed ${name}\n`);
      expect((await box.run(name)).stderr).toContain('unknown command');
    }
  });

  it('prints one error object with --json', async () => {
    const { stdout } = await box.run('deploy', '--json');
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'no_project', hint: expect.any(String) } });
  });
});

describe('new', () => {
  it('makes a project, with global flags before or after the command', async () => {
    expect((await box.run('-C', '.', 'new', 'one', '--platform', 'local')).code).toBe(0);
    expect((await box.run('new', 'two', '--platform=local', '--json', '-q')).code).toBe(0);
    for (const name of ['one', 'two'])
      for (const file of [
        'app.json',
        'docker-compose.yaml',
        'prelaunch.sh',
        '.env',
        '.user-config',
        'shared',
      ])
        expect(existsSync(box.path(name, file))).toBe(true);
    expect(await box.run('new', 'one')).toMatchObject({ code: 1 });
    expect((await box.run('new', 'one')).stderr).toContain("Directory 'one' already exists.");
  });

  it('makes a project for a cloud, without .env when there is no KMS', async () => {
    await box.run('new', 'gcp', '--platform', 'gcp', '--kp', 'tpm', '--gw');
    const app = JSON.parse(readFileSync(box.path('gcp/app.json'), 'utf8'));
    expect(app).toMatchObject({
      platform: 'gcp',
      key_provider: 'tpm',
      gateway_enabled: false,
      no_instance_id: true,
    });
    expect(app.env_file).toBeUndefined();
    expect(existsSync(box.path('gcp/.env'))).toBe(false);
    expect(readFileSync(box.path('gcp/docker-compose.yaml'), 'utf8')).toContain('image: nginx:alpine');
  });

  it('is for this host unless something else is asked for, and keeps secrets out of git', async () => {
    await box.run('new', 'here');
    expect(JSON.parse(readFileSync(box.path('here/app.json'), 'utf8'))).toMatchObject({ platform: 'local' });
    expect(readFileSync(box.path('here/.gitignore'), 'utf8').split('\n')).toContain('.env');
    writeFileSync(box.path('cloud.json'), JSON.stringify({ platform: 'gcp' }));
    await box.run('new', 'there', '--config', box.path('cloud.json'));
    expect(JSON.parse(readFileSync(box.path('there/app.json'), 'utf8'))).toMatchObject({ platform: 'gcp' });
  });

  it('makes a project for a virtual machine, and says how the image gets there', async () => {
    const made = await box.run('new', 'vm', '--platform', 'local', '--driver', 'vm');
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining('local_config.images') });
    const app = (name: string) => JSON.parse(readFileSync(box.path(name, 'app.json'), 'utf8'));
    expect(app('vm').local_config).toMatchObject({ driver: 'vm', memory: 2048, data_size: 20, images: [] });
    const compose = (name: string) => readFileSync(box.path(name, 'docker-compose.yaml'), 'utf8');
    expect(compose('vm')).not.toContain('dstack-sdk');
    writeFileSync(box.path('vm.json'), JSON.stringify({ platform: 'local', local: { driver: 'vm' } }));
    const id = `sha256:${'ab'.repeat(32)}`;
    await box.run('new', 'configured', '--config', box.path('vm.json'), '--image', id);
    expect(app('configured').local_config.driver).toBe('vm');
    expect(compose('configured')).toContain(`image: ${id}\n`);
    await box.run('new', 'process', '--config', box.path('vm.json'), '--driver', 'process');
    expect(app('process').local_config.driver).toBe('process');
    expect(compose('process')).toContain('dstack-sdk');
    for (const argv of [
      ['--platform', 'gcp', '--driver', 'vm'],
      ['--platform', 'local', '--driver', 'process', '--image', id],
      ['--platform', 'local', '--driver', 'vm', '--image', 'a b: c'],
    ])
      expect(await box.run('new', 'refused', ...argv)).toMatchObject({ code: 2 });
    expect(existsSync(box.path('refused'))).toBe(false);
  });

  it('makes a project for an enclave, whose root of the KMS must be put in first', async () => {
    const made = await box.run('new', 'enclave', '--platform', 'nitro', '--region', 'eu-west-1');
    expect(made).toMatchObject({ code: 0, stderr: expect.stringContaining('app/root_ca.pem') });
    const app = JSON.parse(readFileSync(box.path('enclave/app.json'), 'utf8'));
    expect(app).toMatchObject({ platform: 'nitro', nitro_config: { host: 'aws', region: 'eu-west-1' } });
    expect(readFileSync(box.path('enclave/app/entrypoint.sh'), 'utf8')).toContain('KMS_URL="__KMS_URL__"');
    expect(existsSync(box.path('enclave/shared'))).toBe(false);
    const config = JSON.stringify({ services: { kms_urls: ['https://kms.example:12001'] } });
    writeFileSync(box.path('config.json'), config);
    const measured = await box.run('-C', 'enclave', 'measure', '--config', box.path('config.json'));
    expect(measured).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('it is still the placeholder'),
    });
    const evil = { ...app, nitro_config: { kms_url: 'https://kms.example/$(reboot)' } };
    writeFileSync(box.path('enclave/app.json'), JSON.stringify(evil));
    expect((await box.run('-C', 'enclave', 'measure')).stderr).toContain(
      'cannot be put into an enclave image',
    );
    const debug = { ...app, nitro_config: { debug: true } };
    writeFileSync(box.path('enclave/app.json'), JSON.stringify(debug));
    expect((await box.run('-C', 'enclave', 'deploy')).stderr).toContain('no key service gives it keys');
    expect((await box.run('new', 'local', '--platform', 'local')).code).toBe(0);
    expect((await box.run('-C', 'local', 'deploy', '--local')).code).toBe(2);
  });

  it.each([
    ['a short app id', ['--app-id', 'abc'], 'app_id must be exactly 40 hexadecimal characters'],
    ['an unknown platform', ['--platform', 'azure'], 'Unknown platform azure'],
    ['an unknown key provider', ['--key-provider', 'sgx'], 'sgx'],
    ['a disk size that is no number', ['--data-size', 'big'], '--data-size'],
    [
      'an instance name that no machine takes',
      ['--platform', 'local', '--instance-name', 'a/b'],
      'instance name',
    ],
    ['one that is too long', ['--platform', 'local', '--instance-name', 'x'.repeat(129)], 'instance name'],
    ['one that no cloud takes', ['--platform', 'gcp', '--instance-name', 'UPPER'], 'instance name'],
    ['an image name that leads elsewhere', ['--os-image', '../image'], 'OS image'],
    ['an image name that is too long', ['--os-image', 'x'.repeat(65)], 'OS image'],
  ])('refuses %s', async (_name, flags, message) => {
    const { code, stderr } = await box.run('new', 'x', ...flags);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(existsSync(box.path('x'))).toBe(false);
  });
});

describe('names that a later step would not take', () => {
  it.each([
    ['too long', 'x'.repeat(64)],
    ['too long for a folder', 'x'.repeat(300)],
    ['with a line end', 'a\nb'],
    ['with a control character', 'a\u001bb'],
    ['that turns the direction of text', 'a\u202eb'],
  ])('%s are refused by new', async (_name, name) => {
    const { code, stderr } = await box.run('new', name, '--platform', 'local');
    expect(code).toBe(2);
    expect(stderr).toMatch(/The name of the project/);
    expect(readdirSync(box.directory)).toEqual([]);
  });

  it('are what it takes, up to the longest', async () => {
    for (const name of ['x'.repeat(63), 'café 1', 'KMS_prod']) {
      expect((await box.run('new', name, '--platform', 'local', '--kp', 'none')).code).toBe(0);
      expect((await box.run('-C', name, 'measure')).code).toBe(0);
    }
  });
});

describe('config-edit', () => {
  const script = '#!/bin/sh\nprintf "%s\\n" "$@" > "$(dirname "$0")/arguments"\n';

  it.each([
    ['a program', (path: string) => `"${path}"`, []],
    ['arguments', (path: string) => `'${path}' --wait -n`, ['--wait', '-n']],
    [
      'arguments in quotes',
      (path: string) => `'${path}' --title "two words" ''`,
      ['--title', 'two words', ''],
    ],
  ])('starts an EDITOR with %s', async (_name, editor, args) => {
    const program = box.path('my editor');
    writeFileSync(program, script, { mode: 0o755 });
    box.env = { EDITOR: editor(program) };
    const { code, stderr } = await box.run('config-edit');
    expect(code, stderr).toBe(0);
    const config = box.path('.config/dstack-cloud/config.json');
    expect(readFileSync(box.path('arguments'), 'utf8')).toBe(`${[...args, config].join('\n')}\n`);
  });

  it('says which editor cannot be started, or ended badly', async () => {
    box.env = { VISUAL: 'nosuch-editor -w' };
    expect((await box.run('config-edit')).stderr).toContain('Cannot start the editor nosuch-editor -w');
    box.env = { EDITOR: 'sh -c "exit 3"' };
    expect((await box.run('config-edit')).stderr).toContain('ended with 3');
  });
});

describe('a deployment that does not exist', () => {
  beforeEach(() => box.run('new', 'app', '--platform', 'local'));

  it.each([
    ['status', 0, 3],
    ['stop', 0, 3],
    ['remove', 0, 3],
    ['logs', 1, 3],
    ['start', 1, 3],
    ['verify', 1, 3],
  ])('%s', async (command, plain, strict) => {
    expect((await box.run('-C', 'app', command)).code).toBe(plain);
    expect((await box.run('-C', 'app', command, '--exit-code')).code).toBe(strict);
  });
});

describe('bad input', () => {
  beforeEach(() => box.run('new', 'app', '--platform', 'local'));

  it.each([
    ['a compose file that is no YAML', 'a: [b\n c: }', /docker-compose\.yaml:1:\d+: this is no YAML/],
    ['an empty compose file', '', /has no services/],
    ['a compose file that is a text', 'hello', /has no services/],
    ['services as a list', 'services: [a]', /has no services/],
  ])('refuses %s', async (_name, text, message) => {
    writeFileSync(box.path('app/docker-compose.yaml'), text);
    const { code, stderr } = await box.run('-C', 'app', 'deploy');
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(existsSync(box.path('app/state.json'))).toBe(false);
    expect(existsSync(box.path('app/shared/app-compose.json'))).toBe(false);
  });

  it('names file, line and column of a broken app.json', async () => {
    writeFileSync(box.path('app/app.json'), '{\n  "name": "x",\n  oops\n}');
    const { code, stderr } = await box.run('-C', 'app', 'status');
    expect(code).toBe(1);
    expect(stderr).toMatch(/app\.json(:3:\d+)? is no valid JSON/);
  });

  it('names the key of a bad configuration, and the nearest known one', async () => {
    const config = box.path('config.json');
    writeFileSync(config, '{"services": {"kms_urls": "https://kms"}}');
    expect((await box.run('list', '--config', config)).stderr).toContain('services.kms_urls');
    writeFileSync(config, '{"platform": "local", "services": {"kms_url": []}}');
    expect((await box.run('list', '--config', config)).stderr).toContain('did you mean kms_urls?');
    expect((await box.run('list', '--config', 'missing.json')).code).toBe(1);
  });

  it('says that the KMS is down', async () => {
    writeFileSync(box.path('app/.env'), 'A=1\n');
    writeFileSync(
      box.path('config.json'),
      JSON.stringify({
        platform: 'local',
        services: { kms_urls: ['http://127.0.0.1:9'] },
        trusted_signers: { 'http://127.0.0.1:9': `0x02${'11'.repeat(32)}` },
      }),
    );
    const { code, stderr } = await box.run('-C', 'app', 'deploy', '--config', 'config.json');
    expect(code).toBe(1);
    expect(stderr).toMatch(/No KMS answered: http:\/\/127\.0\.0\.1:9: .*ECONNREFUSED/);
    expect(existsSync(box.path('app/shared/.encrypted-env'))).toBe(false);
  });

  it('fails closed when nothing says who may sign', async () => {
    writeFileSync(box.path('app/.env'), 'A=1\n');
    writeFileSync(box.path('config.json'), '{"services": {"kms_urls": ["http://127.0.0.1:9"]}}');
    const { stderr } = await box.run('-C', 'app', 'deploy', '--config', 'config.json');
    expect(stderr).toContain('No KMS answered');
  });

  it('says that the chain is down', async () => {
    const chain = { rpc_url: 'http://127.0.0.1:9', kms_contract: `0x${'11'.repeat(20)}` };
    writeFileSync(box.path('config.json'), JSON.stringify({ chain }));
    for (const command of [
      ['app', 'show'],
      ['deploy', '--register'],
    ]) {
      const { code, stderr } = await box.run('-C', 'app', '--config', 'config.json', ...command);
      expect(code).toBe(1);
      expect(stderr).toContain('The chain at 127.0.0.1:9 does not answer');
    }
  });

  it('refuses a key provider that the platform does not have', async () => {
    await box.run('new', 'tpm', '--platform', 'local', '--kp', 'tpm');
    const { code, stderr } = await box.run('-C', 'tpm', 'deploy');
    expect(code).toBe(1);
    expect(stderr).toContain('Key provider tpm does not exist on platform local');
  });

  it('says that a port is in use, and makes no machine', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    await box.run('new', 'busy', '--platform', 'local', '--kp', 'none');
    const path = box.path('busy/app.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"port": 0', `"port": ${port}`));
    writeFileSync(
      box.path('config.json'),
      JSON.stringify({ local: { run_path: box.path('vm'), seed_file: box.path('seed') } }),
    );
    const { code, stdout } = await box.run('-C', 'busy', 'deploy', '--json', '--config', 'config.json');
    server.close();
    expect(code).toBe(1);
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'port_in_use', found: 'in use' });
    expect(existsSync(box.path('vm'))).toBe(false);
    expect(existsSync(box.path('busy/state.json'))).toBe(false);
  });

  it('refuses a .env without a KMS', async () => {
    await box.run('new', 'none', '--platform', 'local', '--kp', 'none');
    writeFileSync(box.path('none/.env'), '');
    expect((await box.run('-C', 'none', 'measure')).stderr).toContain('KMS is not enabled');
  });
});

describe('measure', () => {
  it('is deterministic, and changes with the compose file', async () => {
    await box.run('new', 'app', '--platform', 'local');
    writeFileSync(box.path('app/.env'), 'B=1\nA=2\n');
    const first = JSON.parse((await box.run('-C', 'app', 'measure', '--json')).stdout);
    expect(first.allowed_envs).toEqual(['B', 'A']);
    expect(JSON.parse((await box.run('-C', 'app', 'measure', '--json')).stdout)).toEqual(first);
    const path = box.path('app/docker-compose.yaml');
    writeFileSync(path, `${readFileSync(path, 'utf8')}# changed\n`);
    const second = JSON.parse((await box.run('-C', 'app', 'measure', '--json')).stdout);
    expect(second.compose_hash).not.toBe(first.compose_hash);
    expect(second.os_image_hash).toBe(first.os_image_hash);
  });

  it('finds the project from a folder below it', async () => {
    await box.run('new', 'app', '--platform', 'local');
    expect((await box.run('-C', 'app/shared', 'measure')).code).toBe(0);
  });
});
