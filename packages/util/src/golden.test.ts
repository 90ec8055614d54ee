/** Each record of what the original's program says, replayed. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describeWithFixtures, fixture, fixtureJson, fixturePath } from '@dstack-cloud/test/fixtures';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { runUtil } from './run-util.ts';

interface Bytes {
  readonly utf8?: string;
  readonly hex?: string;
  readonly sha256?: string;
  readonly length?: number;
  readonly head_hex?: string;
}

interface GoldenRecord {
  readonly id: string;
  readonly args: readonly string[];
  readonly stdin?: Bytes;
  readonly exit_code: number;
  readonly stdout?: Bytes;
  readonly stderr: string;
  readonly compare: 'exact' | 'shape' | 'form';
  readonly files?: Readonly<Record<string, { mode: string; length: number; sha256?: string } | null>>;
  readonly containers_left?: readonly string[];
}

/** Where ours differs on purpose; what is compared instead. */
const DIFFERENCES: Readonly<
  Record<string, { readonly why: string; readonly stderr?: RegExp; readonly stdout?: RegExp }>
> = {
  typo: {
    why: 'one name is suggested, the nearest',
    stderr: /^error: unrecognized subcommand 'qoute'\n\n {2}tip: a similar subcommand exists: 'quote'\n/,
  },
  'get-keys.help': {
    why: 'more options, and keys go to a file',
    stdout:
      /^Get app keys from a KMS server\n\nUsage: dstack-util get-keys \[OPTIONS\] --kms-url <KMS_URL>\n\nOptions:\n {2}-k, --kms-url <KMS_URL> /,
  },
  'attest-info.truncated': {
    why: 'the decoder names the field in its own words',
    stderr: /^Error: Failed to decode attestation\n\nCaused by:\n/,
  },
  'tpm-verify.badjson': {
    why: "the JSON parser's words",
    stderr: /^Error: Failed to parse quote JSON\n\nCaused by:\n/,
  },
  'remove-orphans.badyaml': {
    why: "the YAML parser's words",
    stderr: /^Error: failed to parse YAML\n\nCaused by:\n/,
  },
  'remove-orphans.dry': {
    why: "the JSON parser's words",
    stderr: /^Warning: Failed to parse \S+config\.v2\.json: /,
  },
  'remove-orphans.real': {
    why: "the JSON parser's words",
    stderr: /^Warning: Failed to parse \S+config\.v2\.json: /,
  },
  'remove-orphans.again': {
    why: "the JSON parser's words",
    stderr: /^Warning: Failed to parse \S+config\.v2\.json: /,
  },
  'get-keys.badappid': {
    why: 'refused before anybody is asked',
    stderr: /^Error: Invalid app_id hex string\n/,
  },
  'get-keys.refused': { why: 'a KMS that nothing pins is refused', stderr: /^Error: no --root-ca/ },
  'get-keys.prpc': { why: 'a KMS that nothing pins is refused', stderr: /^Error: no --root-ca/ },
  'get-keys.slashes': { why: 'a KMS that nothing pins is refused', stderr: /^Error: no --root-ca/ },
  'vtpm-attest.text': {
    why: 'the self test has no steps to count',
    stdout:
      /^=== vTPM Attestation ===\nRoot CA: "\S+root\.pem"\nNonce: x\nKey Algorithm: RSA-2048\n\n=== Attestation Result ===\n {2}EK Certificate Chain: ✗ FAILED\n {2}TPM Quote: ✗ FAILED\n\n❌ ATTESTATION FAILED\nError: /,
  },
  'vtpm-attest.json': {
    why: 'the reason differs',
    stdout:
      /^\{\n {2}"success": false,\n {2}"ek_cert_verified": false,\n {2}"quote_verified": false,\n {2}"os_image_verified": null,\n {2}"nonce": "x",\n {2}"key_algorithm": "RSA-2048",\n {2}"error": "/,
  },
};

const HASH = '1'.repeat(64);

describeWithFixtures('dstack-util without a TEE', 'guest-original/dstack-util.json', () => {
  const { no_tee: records } = fixtureJson<{ no_tee: GoldenRecord[] }>('guest-original/dstack-util.json');
  const home = process.cwd();
  let dir: string;

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'util-'));
    for (const name of ['attestation.bin', 'appkeys.json', 'app-compose.json'])
      writeFileSync(join(dir, name), fixture(`simulator/${name}`));
    const evidence = fixture('simulator/attestation.bin');
    writeFileSync(join(dir, 'bad.bin'), 'bad');
    writeFileSync(join(dir, 'empty.bin'), '');
    writeFileSync(join(dir, 'trail.bin'), Buffer.concat([evidence, Buffer.from('xx')]));
    writeFileSync(join(dir, 'trunc.bin'), evidence.subarray(0, evidence.length - 100));
    writeFileSync(join(dir, 'root.pem'), 'no PEM\n');
    mkdirSync(join(dir, 'proj'));
    writeFileSync(join(dir, 'proj/docker-compose.yaml'), 'services:\n  web:\n    image: a\n');
    writeFileSync(join(dir, 'named.yaml'), 'name: proj\nservices:\n  web:\n    image: a\n');
    writeFileSync(join(dir, 'noserv.yaml'), 'name: proj\n');
    writeFileSync(join(dir, 'bad.yaml'), 'a: [\n');
    const container = (id: string, config: object | string): void => {
      const folder = join(dir, 'docker/containers', id);
      mkdirSync(folder, { recursive: true });
      writeFileSync(
        join(folder, 'config.v2.json'),
        typeof config === 'string' ? config : JSON.stringify(config),
      );
    };
    const labels = (project: string, service: string) => ({
      Config: { Labels: { 'com.docker.compose.project': project, 'com.docker.compose.service': service } },
    });
    container('0'.repeat(64), labels('proj', 'web'));
    container(HASH, labels('proj', 'gone'));
    container('2'.repeat(64), labels('other', 'gone'));
    container('3'.repeat(64), { Config: { Labels: {} } });
    container('e'.repeat(64), '{x');
    process.chdir(dir);
    vi.stubEnv('DOCKER_HOST', 'unix:///nonexistent.sock');
    // A machine without hardware, whatever this one has.
    vi.stubEnv('DSTACK_CCEL_FILE', '/sys/firmware/acpi/tables/data/CCEL');
  });
  afterEach(() => vi.restoreAllMocks());
  afterAll(() => {
    process.chdir(home);
    vi.unstubAllEnvs();
    rmSync(dir, { recursive: true });
  });

  test.each(records.map((record) => [record.id, record] as const))('%s', async (_, record) => {
    const found = await run(
      record.args.map((word) => word.replaceAll('<dir>', dir)),
      inputOf(record.stdin),
    );
    const shown = (text: string): string => text.replaceAll(dir, '<dir>');
    const difference = DIFFERENCES[record.id];
    expect(found.code, found.stderr).toBe(record.exit_code);
    if (difference?.stdout) expect(shown(found.stdout.toString())).toMatch(difference.stdout);
    else if (record.stdout) expectBytes(found.stdout, record.stdout, shown);
    if (difference?.stderr) expect(shown(found.stderr)).toMatch(difference.stderr);
    else if (record.compare === 'form')
      expect(shown(found.stderr).split('\n')[0]).toBe(record.stderr.split('\n')[0]);
    else expect(shown(found.stderr)).toBe(record.stderr);
    for (const [name, wanted] of Object.entries(record.files ?? {})) {
      const path = join(dir, name);
      if (wanted === null) {
        expect(existsSync(path)).toBe(false);
        continue;
      }
      const bytes = readFileSync(path);
      expect((statSync(path).mode & 0o777).toString(8)).toBe(wanted.mode);
      expect(bytes.length).toBe(wanted.length);
      if (wanted.sha256 !== undefined) expect(sha256(bytes)).toBe(wanted.sha256);
    }
    if (record.containers_left)
      expect(readdirSync(join(dir, 'docker/containers')).map((id) => id[0])).toEqual(record.containers_left);
  });

  test('every difference is of a record', () => {
    const ids = new Set(records.map(({ id }) => id));
    expect(Object.keys(DIFFERENCES).filter((id) => !ids.has(id))).toEqual([]);
    expect(records.length).toBeGreaterThan(100);
    expect(existsSync(fixturePath('guest-original/README.md'))).toBe(true);
    chmodSync(dir, 0o700);
  });
});

function inputOf(stdin: Bytes | undefined): Buffer {
  if (stdin?.utf8 !== undefined) return Buffer.from(stdin.utf8);
  if (stdin?.hex !== undefined) return Buffer.from(stdin.hex, 'hex');
  const head = Buffer.from(stdin?.head_hex ?? '', 'hex');
  return Buffer.alloc(stdin?.length ?? 0, head);
}

function expectBytes(found: Buffer, wanted: Bytes, shown: (text: string) => string): void {
  if (wanted.utf8 !== undefined) expect(shown(found.toString())).toBe(wanted.utf8);
  if (wanted.sha256 !== undefined) expect(sha256(found)).toBe(wanted.sha256);
  if (wanted.length !== undefined) expect(found.length).toBe(wanted.length);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Runs a command in this process. */
async function run(
  args: readonly string[],
  input: Buffer,
): Promise<{ code: number; stdout: Buffer; stderr: string }> {
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  const into = (list: Buffer[]) => (data: string | Uint8Array) => {
    list.push(Buffer.from(data as Uint8Array));
    return true;
  };
  vi.spyOn(process.stdout, 'write').mockImplementation(into(stdout));
  vi.spyOn(process.stderr, 'write').mockImplementation(into(stderr));
  vi.spyOn(process, 'stdin', 'get').mockReturnValue(
    Readable.from([input]) as unknown as typeof process.stdin,
  );
  const code = await runUtil(args);
  vi.restoreAllMocks();
  return { code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}
