import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describeWithFixtures, fixture, fixtureJson } from '@dstack-cloud/test/fixtures';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { Sandbox } from '../testing.ts';

let box: Sandbox;
// Loaded once, outside of the time of the first test.
beforeAll(async () => void (await import('@dstack-cloud/eif')), 120_000);
beforeEach(() => {
  box = new Sandbox();
  mkdirSync(box.path('root/bin'), { recursive: true });
  writeFileSync(box.path('root/bin/app'), '#!app');
  chmodSync(box.path('root/bin/app'), 0o755);
  mkdirSync(box.path('blobs'));
  for (const [name, text] of Object.entries({
    bzImage: 'k',
    cmdline: 'reboot=k\n',
    init: 'i',
    'nsm.ko': 'n',
  }))
    writeFileSync(box.path('blobs', name), text);
});
afterEach(() => box.remove());

const build = (...more: string[]) =>
  box.run('eif', 'build', '--root', 'root', '--blobs', 'blobs', '-o', 'app.eif', ...more);
/** A word after `--` is the command, also one that looks like an option. */
const COMMAND = ['--', '/bin/app', '--json'];

it('builds, measures, describes and verifies', async () => {
  const built = await build(...COMMAND);
  expect(built).toMatchObject({ code: 0, stderr: expect.stringContaining('PCR 1 is not that of nitro-cli') });
  expect(built.stdout).toMatch(/^PCR0: [0-9a-f]{96}\nPCR1: .*\nPCR2: .*\nOS_IMAGE_HASH: 0x[0-9a-f]{64}\n$/);
  const measured = await box.run('eif', 'measure', 'app.eif');
  expect(measured.stdout).toBe(built.stdout);
  const json = (await box.run('eif', 'measure', 'app.eif', '--json')).stdout;
  expect(JSON.parse(json)).toEqual({
    Measurements: {
      HashAlgorithm: 'Sha384 { ... }',
      PCR0: expect.stringMatching(/^[0-9a-f]{96}$/),
      PCR1: expect.any(String),
      PCR2: expect.any(String),
    },
    OS_IMAGE_HASH: expect.stringMatching(/^0x[0-9a-f]{64}$/),
  });
  writeFileSync(box.path('measurements.json'), json);
  const verified = await box.run('eif', 'verify', 'app.eif', '--measurements', 'measurements.json', '--json');
  expect(verified.code).toBe(0);
  expect(JSON.parse(verified.stdout)).toMatchObject({ valid: true, compared: ['PCR0', 'PCR1', 'PCR2'] });
  const described = JSON.parse((await box.run('eif', 'describe', 'app.eif')).stdout);
  expect(described).toMatchObject({ ImageName: 'app', CheckCRC: true, IsSigned: false });
  expect(described.Metadata.BuildTime).toBe('1970-01-01T00:00:00+00:00');
});

it('two builds are equal byte for byte, and SOURCE_DATE_EPOCH gives the time', async () => {
  await build(...COMMAND);
  const first = readFileSync(box.path('app.eif'));
  box.now = new Date('2027-05-05T00:00:00Z');
  await build(...COMMAND);
  expect(readFileSync(box.path('app.eif')).equals(first)).toBe(true);
  box.env = { SOURCE_DATE_EPOCH: '1700000000' };
  await build(...COMMAND);
  const { stdout } = await box.run('eif', 'describe', 'app.eif', '--json');
  expect(JSON.parse(stdout).Metadata.BuildTime).toBe('2023-11-14T22:13:20+00:00');
});

it('refuses a damaged image and other registers with exit code 4', async () => {
  await build(...COMMAND);
  const other = `PCR0=${'00'.repeat(48)}`;
  const refused = await box.run('eif', 'verify', 'app.eif', '--expect', other, '--json');
  expect(refused.code).toBe(4);
  expect(JSON.parse(refused.stdout).error).toMatchObject({
    code: 'measurement-differs',
    message: 'PCR0 of the enclave image is not the one expected',
    expected: '00'.repeat(48),
  });
  const image = readFileSync(box.path('app.eif'));
  image[image.length - 1]! ^= 1;
  writeFileSync(box.path('app.eif'), image);
  expect(await box.run('eif', 'verify', 'app.eif')).toMatchObject({
    code: 4,
    stderr: expect.stringContaining('The checksum in the header is not that of the content'),
  });
  expect((await box.run('eif', 'measure', 'app.eif')).stderr).toContain('Warning: The checksum');
});

it.each<[string, string[], number, RegExp]>([
  ['no source', ['build', '-o', 'x.eif'], 2, /either --image FILE or --root FOLDER/],
  [
    'two sources',
    ['build', '--root', 'root', '--image', 'x', '-o', 'x.eif'],
    2,
    /either --image FILE or --root/,
  ],
  ['no output', ['build', '--root', 'root'], 2, /required option '-o, --output <FILE>'/],
  [
    'a missing image',
    ['build', '--image', 'app.tar', '-o', 'x.eif'],
    1,
    /app\.tar does not exist\n.*docker save/s,
  ],
  ['no kernel', ['build', '--root', 'root', '-o', 'x.eif'], 1, /Nothing gives the .* of the enclave/],
  [
    'no command',
    ['build', '--root', 'root', '--blobs', 'blobs', '-o', 'x.eif'],
    1,
    /Nothing says what the enclave starts/,
  ],
  [
    'half a signer',
    ['build', '--root', 'root', '--private-key', 'k', '-o', 'x.eif'],
    2,
    /takes a certificate, and a key/,
  ],
  ['nobody who signs', ['sign', 'app.eif'], 2, /No signer given/],
  ['no enclave image', ['measure', 'blobs/bzImage'], 1, /is no enclave image file/],
  ['a file that is not there', ['describe', 'nosuch.eif'], 1, /nosuch\.eif does not exist/],
  ['a folder', ['describe', 'blobs'], 1, /is not a regular file/],
  ['a register that is none', ['verify', 'app.eif', '--expect', 'PCR3=00'], 2, /names no register/],
  ['a time that is none', ['verify', 'app.eif', '--at', 'soon'], 2, /"soon" is not a time/],
])('says what is wrong: %s', async (_name, argv, code, message) => {
  const outcome = await box.run('eif', ...argv);
  expect(outcome.stderr).toMatch(message);
  expect(outcome.code).toBe(code);
});

it.each(['build', 'measure', 'describe', 'sign', 'verify'])('%s --help has examples', async (name) => {
  const { code, stdout } = await box.run('eif', name, '--help');
  expect(code).toBe(0);
  expect(stdout).toMatch(new RegExp(`Examples:\n[\\s\\S]*dstack-cloud eif ${name} `));
});

describeWithFixtures('with the fixtures', 'eif/expected.json', () => {
  it('describes as nitro-cli does', async () => {
    const { eif } = fixtureJson<{
      eif: Record<string, { file: string; measurements: object; isSigned: boolean }>;
    }>('eif/expected.json');
    for (const { file, measurements, isSigned } of Object.values(eif)) {
      writeFileSync(box.path(file), fixture(`eif/${file}`));
      const { stdout } = await box.run('eif', 'describe', file, '--json');
      expect(JSON.parse(stdout)).toMatchObject({
        Measurements: measurements,
        IsSigned: isSigned,
        CheckCRC: true,
      });
    }
  });
});

describeWithPrograms('with openssl', ['openssl'], () => {
  beforeEach(() => {
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-nodes', '-keyout', 'key.pem'];
    const args = ['req', '-x509', ...key, '-out', 'cert.pem', '-days', '3650', '-subj', '/CN=me', '-sha384'];
    execFileSync('openssl', args, { cwd: box.directory, stdio: 'ignore' });
    box.now = new Date();
  });
  const certificate = ['--signing-certificate', 'cert.pem'];

  it('signs in a build, and afterwards by a command', async () => {
    const built = await build(...certificate, '--private-key', 'key.pem', ...COMMAND);
    expect(built.stdout).toMatch(/^PCR8: [0-9a-f]{96}$/m);
    const verified = await box.run('eif', 'verify', 'app.eif', ...certificate);
    expect(verified).toMatchObject({ code: 0, stdout: expect.stringContaining('by "me"') });
    const command = ['--sign-command', 'openssl dgst -sha384 -sign key.pem'];
    const cwd = process.cwd();
    process.chdir(box.directory);
    try {
      expect(
        (await box.run('eif', 'sign', 'app.eif', '-o', 'two.eif', ...certificate, ...command)).code,
      ).toBe(0);
    } finally {
      process.chdir(cwd);
    }
    expect((await box.run('eif', 'verify', 'two.eif', ...certificate)).code).toBe(0);
    box.now = new Date('2099-01-01');
    expect(await box.run('eif', 'verify', 'two.eif')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('The signing certificate has expired'),
    });
  });
});
