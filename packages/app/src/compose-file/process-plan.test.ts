// biome-ignore-all lint/suspicious/noTemplateCurlyInString: compose files interpolate with the same signs
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { describe, expect, it } from 'vitest';
import { planProcesses, readComposeFile } from './index.ts';
import type { ProcessPlanOptions } from './process-plan.ts';
import { splitCommand } from './split-command.ts';

const plan = (text: string, variables = {}, options: Partial<ProcessPlanOptions> = {}) =>
  planProcesses(readComposeFile(text), { variables, sealedEnv: {}, ...options });
const draft = (members: string) => () =>
  plan(`services: {a: {command: x, ${members}}}`, {}, { isDraft: true });

describe('planProcesses', () => {
  it('reads what a process needs', () => {
    const text = `
x-common: &common
  restart: on-failure:3
services:
  web:
    <<: *common
    image: node:22
    entrypoint: node --import tsx
    command: ["server.mjs", 80]
    environment: { TOKEN: "\${TOKEN}", DEBUG: true, UNSET: null, BY_NAME: null }
    working_dir: app
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
      - { type: bind, source: /x, target: /y, read_only: true }
      - data:/data:ro,z
      - /anonymous
    ports: ["8080:80", "127.0.0.1:9000-9001:9000-9001/udp", "[::1]:1:2", 443, { target: 5, published: "6" }]
    depends_on: { db: { condition: service_started } }
    stop_grace_period: 1m2.5s
    stop_signal: INT
    configs: [{ source: conf, target: /etc/conf.toml, mode: 0o440 }]
    secrets: [short, { source: long, target: key, mode: "0400" }]
  db:
    command: sh -c "echo \\"$$HOME\\" && sleep 1"
    environment: [A=1, B=x=y, INHERITED, ABSENT]
  tools:
    profiles: [debug]
configs:
  conf: { content: "token = \${TOKEN}" }
secrets:
  short: { environment: TOKEN }
  long: { file: ./long }
`;
    const { services, skipped } = plan(text, { TOKEN: 's3', INHERITED: 'x=1', BY_NAME: '' });
    expect(skipped).toEqual(['tools']);
    expect(services.map(({ name }) => name)).toEqual(['db', 'web']);
    const [db, web] = services;
    expect(db?.argv).toEqual(['sh', '-c', 'echo "$HOME" && sleep 1']);
    expect([...(db?.environment ?? [])]).toEqual([
      ['A', '1'],
      ['B', 'x=y'],
      ['INHERITED', 'x=1'],
    ]);
    expect(db?.restart.when).toBe('never');
    expect(web).toMatchObject({
      argv: ['node', '--import', 'tsx', 'server.mjs', '80'],
      restart: { when: 'on-failure', max: 3 },
      workingDir: 'app',
      stopGraceMs: 62_500,
      stopSignal: 'SIGINT',
      volumes: [
        { type: 'bind', source: '/var/run/dstack.sock', readOnly: false },
        { type: 'bind', source: '/x', target: '/y', readOnly: true, isShort: false },
        { type: 'volume', source: 'data', target: '/data', readOnly: true },
        { type: 'volume', source: undefined, target: '/anonymous' },
      ],
      ports: [
        { published: '8080', target: '80', protocol: 'tcp' },
        { published: '9000-9001', target: '9000-9001', protocol: 'udp' },
        { published: '1', target: '2' },
        { published: undefined, target: '443' },
        { published: '6', target: '5' },
      ],
      files: [
        {
          kind: 'config',
          target: '/etc/conf.toml',
          mode: 0o440,
          content: { from: 'text', text: 'token = s3' },
        },
        {
          kind: 'secret',
          target: '/run/secrets/short',
          mode: 0o444,
          content: { from: 'variable', name: 'TOKEN' },
        },
        {
          kind: 'secret',
          target: '/run/secrets/key',
          mode: 0o400,
          content: { from: 'file', path: './long' },
        },
      ],
    });
    expect([...(web?.environment ?? [])]).toEqual([
      ['TOKEN', 's3'],
      ['DEBUG', 'true'],
      ['BY_NAME', ''],
    ]);
  });

  it.each([
    ['mode: 0755', 0o755],
    ['mode: "0755"', 0o755],
    ['mode: 0o600', 0o600],
    ['mode: 493', 0o755],
    ['', 0o444],
  ])('a file with %j', (mode, expected) => {
    const text = `services: {a: {command: x, configs: [{source: c, ${mode}}]}}\nconfigs: {c: {content: x}}`;
    expect(plan(text).services[0]?.files[0]?.mode).toBe(expected);
  });

  it('env_file: .env is the sealed environment, and environment wins over it', () => {
    const text =
      'services: {a: {command: x, env_file: [./.env, {path: other, required: false}], environment: {B: own}}}';
    const [service] = plan(
      text,
      { A: 'interpolation only' },
      { sealedEnv: { A: 'sealed', B: 'sealed' } },
    ).services;
    expect([...(service?.environment ?? [])]).toEqual([
      ['A', 'sealed'],
      ['B', 'own'],
    ]);
  });

  it('takes active profiles from COMPOSE_PROFILES', () => {
    const text = 'services: {a: {command: x, profiles: [p]}, b: {command: x, profiles: [q]}}';
    expect(() => plan(text, { COMPOSE_PROFILES: '' })).not.toThrow();
    expect(plan(text, { COMPOSE_PROFILES: 'x,q' }).skipped).toEqual(['a']);
    expect(plan(text, { COMPOSE_PROFILES: '*' }).skipped).toEqual([]);
  });

  it.each([
    [
      'an optional one whose profile is off',
      '{b: {condition: service_started, required: false}}',
      '',
      undefined,
    ],
    [
      'an optional one that does not exist',
      '{c: {condition: service_started, required: false}}',
      '',
      undefined,
    ],
    [
      'a required one whose profile is off',
      '[b]',
      '',
      /service a depends on "b", whose profile is not active/,
    ],
    ['a required one whose profile is on', '[b]', 'p', undefined],
  ])('depends on %s', (_, dependsOn, profiles, message) => {
    const text = `services: {a: {command: x, depends_on: ${dependsOn}}, b: {command: x, profiles: [p]}}`;
    const run = () => plan(text, { COMPOSE_PROFILES: profiles });
    if (message === undefined) expect(run).not.toThrow();
    else expect(run).toThrow(message);
  });

  it('an optional dependency still comes first when it is there', () => {
    const text = 'services: {a: {command: x, depends_on: {b: {required: false}}}, b: {command: x}}';
    expect(plan(text).services.map(({ name }) => name)).toEqual(['b', 'a']);
  });
});

describe('refused with the place', () => {
  it.each([
    ['restart: sometimes', /:1:37: restart "sometimes" is unknown/],
    ['restart: always:3', /restart/],
    ['stop_grace_period: soon', /:1:47: stop_grace_period "soon" is no duration/],
    ['environment: {"": x}', /"" cannot be the name of a variable/],
    ['environment: ["=x"]', /cannot be the name/],
    ['environment: {A: "\\0"}', /holds a NUL/],
    ['environment: {A: [x]}', /must be a text/],
    ['environment: "A=1"', /must be a mapping/],
    ['ports: ["80:80:80:80"]', /:1:36: "80:80:80:80" is no port/],
    ['ports: ["99999:1"]', /is no port/],
    ['volumes: ["a:b:c:d"]', /"a:b:c:d" is no volume/],
    ['volumes: [{type: bind, source: x}]', /the volume has no target/],
    ['configs: [none]', /config "none" is not defined/],
    ['depends_on: {a: {condition: soon}}', /each other/],
    ['command: "x \'y"', /unfinished ' quote/],
    ['command: {a: b}', /command must be a list/],
    ['env_file: [{required: true}]', /env_file has no path/],
    ['working_dir: "${"', /:1:41: Interpolation has no closing brace/],
    ['working_dir: "${A:?set A}"', /:1:41: Required variable A is missing a value: set A/],
  ])('%s', (members, message) => {
    // Written anew: a repeated command is an error of its own.
    const command = members.startsWith('command') ? '' : 'command: x, ';
    const text = `services: {a: {${command}${members}}}`;
    const run = () => plan(text);
    expect(run).toThrow(message);
    expect(run).toThrow(expect.objectContaining({ code: 'compose-file-invalid' }));
  });

  it.each([
    ['image: nginx', /service a declares no command: .* install Docker or Podman/],
    ['command: x, extends: {file: base.yml, service: b}', /extends needs a container engine/],
    ['command: x, volumes_from: [b]', /volumes_from/],
    ['command: x, env_file: other.env', /env_file other\.env/],
    ['command: x, secrets: [s]', /secret s is kept by a container engine/],
    ['command: x, volumes: [{type: npipe, source: x, target: y}]', /this volume/],
    ['command: x, volumes: ["/var/run/docker.sock:/var/run/docker.sock"]', /this volume/],
    ['command: x, stop_signal: SIGFOO', /"SIGFOO" is not known/],
  ])('without an engine: %s', (members, message) => {
    const run = () => plan(`services: {a: {${members}}, b: {command: x}}\nsecrets: {s: {external: true}}`);
    expect(run).toThrow(message);
    expect(run).toThrow(expect.objectContaining({ code: 'compose-file-unsupported' }));
  });

  it('a service that waits for the end of one that never ends', () => {
    const text =
      'services: {a: {command: x, depends_on: {b: {condition: service_completed_successfully}}}, b: {command: x, restart: always}}';
    expect(() => plan(text)).toThrow(/waits for b to complete, which restart: always never does/);
  });
});

describe('notes', () => {
  const notes = (members: string, top = '') =>
    plan(`services: {a: {command: x, image: i, ${members}}}\n${top}`).notes;
  it('name each member that is not done, once', () => {
    const text = `services:
  a: { command: x, healthcheck: {test: x}, user: "1", cap_drop: [ALL], x-y: 1, labels: }
  b: { command: x, user: "2", networks: [n], "bad\\nmember": 1 }
networks: { n: }
include: [x]`;
    expect(plan(text).notes).toEqual([
      'Not done for plain processes: healthcheck of a; user of a, b; cap_drop of a; networks of b; "bad\\nmember" of b; top-level networks; top-level include',
    ]);
  });
  it('name members of the long forms, too', () => {
    const text = `services:
  a:
    command: x
    secrets: [{ source: s, uid: "1", x-y: 1 }]
    volumes: [{ type: volume, source: v, target: /v, volume: {nocopy: true} }]
    depends_on: { b: { condition: service_started, restart: true } }
    env_file: [{ path: .env, format: raw }]
    ports: [{ target: 1, published: "\${PORT}", mode: host }]
  b: { command: x }
secrets: { s: { content: x } }`;
    expect(plan(text).notes).toEqual([
      'Not done for plain processes: secrets.uid of a; volumes.volume of a; depends_on.restart of a; env_file.format of a; ports.mode of a',
    ]);
  });
  it('are none when there is nothing to say', () => {
    expect(
      notes(
        'restart: always, volumes: ["v:/v", "/var/run/dstack.sock:/var/run/dstack.sock:ro"]',
        'volumes: {v: }',
      ),
    ).toEqual([]);
    expect(notes('ports: ["${PORT:-8080}:80"]')).toEqual([]);
  });
  it.each([
    ['ports: ["8080:80"]', '', /must listen on the port in its variable PORT; nothing maps port 8080/],
    ['ports: ["$PORT:80", "9000:90"]', '', /^Not mapped for plain processes: port 9000 of a$/],
    ['volumes: ["v:/v:ro"]', '', /can write to volumes that are read-only for a/],
    ['volumes: ["v:/v"]', 'volumes: {v: {driver: nfs}}', /top-level volumes/],
    [
      'depends_on: {b: {condition: service_healthy, required: false}}',
      '',
      /waits until b is started, not until it is healthy/,
    ],
  ])('%s %s', (members, top, expected) => {
    expect(notes(members, top).join('\n')).toMatch(expected);
  });
  it('stay short for many services', () => {
    const services = Array.from({ length: 60 }, (_, at) => `s${at}: {command: x, user: "1"}`);
    expect(plan(`services: {${services.join(', ')}}`).notes).toEqual([
      'Not done for plain processes: user of s0, s1, s2, s3, s4 and 55 more',
    ]);
  });
});

describe('a draft, before every variable is known', () => {
  it.each([
    'restart: "${R}"',
    'working_dir: "${A:?set A}"',
    'stop_grace_period: "$G"',
    'ports: ["${P}:80"]',
    'volumes: ["${D:-/x}:/y", "$E"]',
    'environment: {A: "${B?}"}',
  ])('lets %s wait', (members) => expect(draft(members)).not.toThrow());
  it.each(['ports: ["${P:-x}:80"]', 'working_dir: "${"'])('refuses %s', (members) =>
    expect(draft(members)).toThrow(),
  );
});

describeWithFixtures('files from practice', 'public-cases/compose/depends-required-false.yaml', () => {
  const text = (name: string) => new TextDecoder().decode(fixture(`public-cases/compose/${name}`));
  it('depends on a service that is not there', () => {
    expect(plan(text('depends-required-false.yaml')).services.map(({ name }) => name)).toEqual(['there']);
  });
  it('files that do not travel are refused where a service cannot start without', () => {
    const read = () => plan(text('files-that-do-not-travel.yaml'));
    expect(read).toThrow(/extends needs a container engine/);
  });
});

describe('splitCommand', () => {
  it.each([
    ['a  b\tc', ['a', 'b', 'c']],
    [`a 'b c' "d e"f ''`, ['a', 'b c', 'd ef', '']],
    [`a\\ b "x\\"y\\z" 'q\\'`, ['a b', 'x"y\\z', 'q\\']],
    ['', []],
  ])('%s', (text, expected) => expect(splitCommand(text)).toEqual(expected));
  it.each([`'a`, '"a', 'a\\'])('%s has no end', (text) =>
    expect(splitCommand(text)).toHaveProperty('problem'),
  );
});
