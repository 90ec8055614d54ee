import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const require = createRequire(import.meta.url);
const MAIN = join(dirname(fileURLToPath(import.meta.url)), 'main.ts');
let directory = '';

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: readonly string[], environment: Record<string, string> = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const argv = [
      '--import',
      pathToFileURL(require.resolve('tsx')).href,
      '-C',
      '@dstack/source',
      MAIN,
      ...args,
    ];
    const options = {
      cwd: directory,
      env: { PATH: process.env['PATH'] ?? '', ...environment },
      timeout: 25_000,
    };
    execFile(process.execPath, argv, options, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    );
  });
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'verifier-main-'));
});
afterAll(() => rm(directory, { recursive: true }));

/** The original's command line, as recorded; texts are ours where clients do not read them. */
describe('one-shot modes of the original', () => {
  it.each([
    ['not JSON', '{', 'Internal error: Failed to parse JSON'],
    ['empty object', '{}', 'Internal error: Quote is required'],
  ])('--verify %s: answer on stdout, nothing written, exit 1', async (_name, text, reason) => {
    await writeFile(join(directory, 'x.json'), text);
    const { code, stdout } = await run(['-c', 'none.toml', '--verify', 'x.json']);
    expect(code).toBe(1);
    expect(stdout.trimEnd().split('\n').length).toBe(1);
    expect((JSON.parse(stdout) as { reason: string }).reason).toContain(reason);
    await expect(readFile(join(directory, 'x.json.verification.json'))).rejects.toThrow();
  });

  it('--verify of a missing file answers too', async () => {
    const { code, stdout } = await run(['--verify', 'none.json']);
    expect([code, (JSON.parse(stdout) as { is_valid: boolean }).is_valid]).toEqual([1, false]);
  });

  it('configuration errors are text on stderr', async () => {
    await writeFile(join(directory, 'v.toml'), 'foo = 1\n');
    const unknown = await run(['-c', 'v.toml', '--verify', 'x.json']);
    expect([unknown.code, unknown.stdout]).toEqual([1, '']);
    expect(unknown.stderr).toContain('unknown key foo');
    const port = await run(['--verify', 'x.json'], { DSTACK_VERIFIER_PORT: '0' });
    expect([port.code, port.stdout]).toEqual([1, '']);
  });

  it('--help and --print-config', async () => {
    expect((await run(['--help'])).stdout).toContain('--verify-cert <FILE>');
    const printed = await run(['--print-config'], { DSTACK_VERIFIER_PORT: '1234' });
    expect((JSON.parse(printed.stdout) as { port: number }).port).toBe(1234);
  });

  it('refuses a command line of no sense with its own code', async () => {
    expect((await run(['verify', '--nonsense', 'x'])).code).toBe(64);
    expect((await run(['verify'])).code).toBe(64);
    expect((await run(['nonsense'])).code).toBe(64);
    expect((await run(['verify', 'x', '--at', 'tomorrow'])).code).toBe(64);
    expect((await run(['verify', 'x', '--root', 'sun=x'])).code).toBe(64);
  });
});

describeWithFixtures('the command as a program', 'mock-evidence/expected.json', () => {
  it('--verify-cert of what is no certificate: exit 1, nothing on stdout', async () => {
    await writeFile(join(directory, 'c.pem'), '{}');
    const { code, stdout, stderr } = await run(['--verify-cert', 'c.pem']);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain('certificate verification failed');
  });

  it('--verify under a test root: refuses stale evidence, and writes the answer beside the file', async () => {
    const root = fixturePath('mock-evidence/set-a/roots/nsm-root-ca.pem');
    const toml = `[attestation]\ninsecure_allow_external_trust_anchors = true\n[attestation.root_ca]\naws_nitro_enclave = "${root}"\n`;
    await writeFile(join(directory, 't.toml'), toml);
    const attestation = toHex(fixture('mock-evidence/set-a/evidence/nitro-good.v0.bin'));
    await writeFile(join(directory, 'n.json'), JSON.stringify({ attestation }));
    const { code, stdout } = await run(['-c', 't.toml', '--verify', 'n.json']);
    expect(code).toBe(1);
    const written = await readFile(join(directory, 'n.json.verification.json'), 'utf8');
    expect(JSON.parse(written)).toEqual(JSON.parse(stdout));
  });

  it('verify, bundle and eventlog', async () => {
    const document = fixturePath('attestation/dstack/nitro-attestation-v0.bin');
    const verified = await run(['verify', document, '--at', '1766678719', '--collateral', 'none', '--json']);
    expect([verified.code, JSON.parse(verified.stdout)]).toMatchObject([
      0,
      { is_valid: true, simulated: false },
    ]);
    const later = await run(['verify', document, '--at', '1766689460', '--collateral', 'none']);
    expect([later.code, later.stdout]).toEqual([1, expect.stringContaining('refused')]);
    const log = await run(['eventlog', fixturePath('measured-boot/eventlog.bin'), '--json']);
    expect([log.code, JSON.parse(log.stdout)]).toMatchObject([0, { format: 'tpm', anomalies: [] }]);
    const noLog = await run(['eventlog', document]);
    expect(noLog.code).toBe(1);
  });
});

it.each([[['--help']], [['verify', '--help']], [['bundle', '-h']]])('%s prints help', async (args) => {
  const { code, stdout } = await run(args);
  expect([code, stdout.split('\n')[0]]).toEqual([
    0,
    'Verifies attestation evidence: as a service, or one file at a time',
  ]);
});
