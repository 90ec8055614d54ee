// biome-ignore-all lint/suspicious/noTemplateCurlyInString: compose files interpolate with the same signs
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkComposeFile, type LintOptions } from './compose-lint.ts';

const IMAGE = 'image: x@sha256:00, restart: always';
let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lint-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const lint = (text: string, options: Partial<LintOptions> = {}) =>
  checkComposeFile(text, 'docker-compose.yaml', {
    directory,
    hasSealedEnv: false,
    scripts: [],
    ...options,
  });
const service = (members: string, options: Partial<LintOptions> = {}) =>
  lint(`services: {a: {${IMAGE}, ${members}}}`, options).warnings;

describe('mounts', () => {
  it.each([
    ...[
      '/',
      '/var/run/docker.sock',
      '/var/run/dstack.sock',
      '/run/tappd.sock',
      '/dstack/x',
      '/proc',
      '/sys/fs/cgroup',
    ],
    ...['/dev/net/tun', '/etc/localtime', '/lib/modules', 'named', '$DATA'],
  ])('%s is what it says', (path) => expect(service(`volumes: ["${path}:/x"]`)).toEqual([]));
  it.each([
    ['./data', /^Service a: \.\/data is a path of the machine, not of your host; it starts empty$/],
    ['/srv/data', /\/srv\/data is .* starts empty/],
    ['~/data', /~\/data/],
    ['/etc', /^Service a: \/etc is a path of the machine, not of your host$/],
  ])('%s is not that of this host', (path, message) =>
    expect(service(`volumes: ["${path}:/x"]`)).toEqual([expect.stringMatching(message)]),
  );
  it('a file of this host does not come along', () => {
    writeFileSync(join(directory, 'nginx.conf'), 'x');
    expect(service('volumes: ["./nginx.conf:/etc/nginx.conf:ro"]')).toEqual([
      'Service a: the file ./nginx.conf does not travel to the machine; write it into configs (content: |)',
    ]);
    mkdirSync(join(directory, 'conf'));
    expect(service('volumes: ["./conf:/etc/conf"]')).toEqual([expect.stringContaining('starts empty')]);
  });
});

describe('numbers without quotes that an engine changes', () => {
  it.each([
    '0022',
    '0x5FF137D4b0FDCD49DcA30c7CF57E578a026d2789',
    '1.10',
    '1e3',
    '12:30',
    '9223372036854775808',
    '1_000',
    '+5',
  ])('%s', (text) => {
    expect(service(`environment: {X: ${text}}`)).toEqual([
      expect.stringMatching(/^Service a: X has no quotes \(docker-compose\.yaml:1:70\); .* for a number/),
    ]);
    expect(service(`environment: {X: "${text}"}`)).toEqual([]);
  });
  it.each(['1147053346671102335', '8080', '0', '-1', '1.5', 'abc', 'true', '1.2.3', '9223372036854775807'])(
    '%s stays',
    (text) => {
      expect(service(`environment: {X: ${text}}`)).toEqual([]);
    },
  );
});

describe('files that do not travel', () => {
  it('what a script inside the machine can make is a warning alone', () => {
    const text = `services: {a: {${IMAGE}, env_file: other.env, secrets: [s]}}\nsecrets: {s: {file: ./s}, unused: {file: ./u}}`;
    expect(lint(text).blockers).toHaveLength(2);
    expect(lint(text).warnings).toHaveLength(3);
    expect(lint(text, { scripts: ['make files'] })).toMatchObject({ blockers: [], warnings: { length: 3 } });
  });
  it('a build context blocks; what the machine can build does not', () => {
    const blocked = (build: string, options = {}) =>
      lint(`services: {a: {${IMAGE}, build: ${build}}}`, options).blockers;
    expect(blocked('.')).toEqual([
      'build of service a: the build context . does not travel to the machine; push an image, and name it under image',
    ]);
    expect(blocked('{context: ./web, dockerfile: D}')).toEqual([expect.stringContaining('context ./web')]);
    expect(blocked('{dockerfile: D}')).toHaveLength(1);
    expect(blocked('.', { scripts: ['# nothing'] })).toHaveLength(1);
    expect(blocked('.', { scripts: ['mkdir x'] })).toEqual([]);
    expect(blocked('https://git.example/x.git#main')).toEqual([]);
    expect(blocked('{context: ., dockerfile_inline: FROM x}')).toEqual([]);
  });
  it('the sealed environment is no file that stays', () => {
    expect(service('env_file: [.env, ./.env]', { hasSealedEnv: true })).toEqual([]);
    expect(service('env_file: [/dstack/.host-shared/.decrypted-env]')).toEqual([]);
    expect(service('env_file: .env')).toEqual([
      'env_file of service a: the file .env does not travel to the machine; nothing is sealed for this app: write NAME=value lines into .env, with key_provider kms',
    ]);
  });
  it('an optional one blocks nothing, and one that a variable names is not known', () => {
    expect(lint(`services: {a: {${IMAGE}, env_file: [{path: x.env, required: false}]}}`).blockers).toEqual(
      [],
    );
    expect(service('env_file: "${FILE}"')).toEqual([]);
  });
});

describeWithFixtures('files from practice', 'public-cases/compose/files-that-do-not-travel.yaml', () => {
  const read = (name: string, options: Partial<LintOptions> = {}) =>
    lint(new TextDecoder().decode(fixture(`public-cases/compose/${name}`)), options);
  it('a warning for each file, naming it and the way out; what stops a service blocks', () => {
    const { warnings, blockers } = read('files-that-do-not-travel.yaml');
    expect(warnings).toEqual([
      expect.stringMatching(/^env_file of service a: the file \.env .*\.env/),
      expect.stringMatching(/^extends of service a: the file base\.yml .* copy what it takes/),
      expect.stringMatching(/^secret s: the file \.\/s\.txt .* \(environment: NAME\)/),
      expect.stringMatching(/^config c: the file \.\/c\.conf .* \(content: \|\)/),
      expect.stringMatching(/^include: the file other\.yml .* put its services into this file/),
    ]);
    expect(blockers).toEqual(warnings.slice(1));
  });
  it('sixty services that share an anchor, two documents, an optional dependency', () => {
    expect(read('sixty-services-one-anchor.yaml').warnings).toEqual([]);
    expect(read('two-documents.yaml').blockers).toEqual([]);
    expect(read('depends-required-false.yaml').blockers).toEqual([]);
  });
  it('numbers that an engine changes are named', () => {
    const { warnings } = read('order-secrets-modes-numbers.yaml', { hasSealedEnv: true });
    const numbers = warnings.filter((text) => text.includes('for a number'));
    expect(numbers.map((text) => /: (\w+) has/.exec(text)?.[1])).toEqual(['OWNER', 'UMASK']);
  });
});

it('refuses with line and column, and says no more than is worth reading', () => {
  expect(() => lint('services:\n  a: {command: x}\n  a: {}')).toThrow(
    expect.objectContaining({ code: 'bad_compose_file', hint: 'Correct line 3 of docker-compose.yaml' }),
  );
  const many = Array.from({ length: 40 }, (_, at) => `s${at}: {image: x}`).join(', ');
  const { warnings } = lint(`services: {${many}}`);
  expect(warnings).toHaveLength(21);
  expect(warnings.at(-1)).toBe('… and 60 more warnings');
});
