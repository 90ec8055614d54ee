// biome-ignore-all lint/suspicious/noTemplateCurlyInString: compose files interpolate with the same signs
import { describe, expect, it } from 'vitest';
import { GuestError } from '../errors.ts';
import { parseComposeFile } from './compose-file.ts';
import { splitCommand } from './split-command.ts';

const parse = (text: string, variables = {}) => parseComposeFile(text, { variables });
const service = (lines: string) =>
  parse(`services:\n  web:\n    ${lines.replaceAll('\n', '\n    ')}`).services[0];

describe('parseComposeFile', () => {
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
      - { type: bind, source: /x, target: /y }
    ports: ["8080:80"]
    depends_on: { db: { condition: service_started } }
    stop_grace_period: 1m2.5s
    configs: [{ source: conf, target: /etc/conf.toml }]
  db:
    command: sh -c "echo \\"$$HOME\\" && sleep 1"
    environment: [A=1, B=x=y, INHERITED, ABSENT]
  tools:
    profiles: [debug]
configs:
  conf: { content: "token = \${TOKEN}" }
`;
    const { services, skipped } = parse(text, { TOKEN: 's3', INHERITED: 'x=1', BY_NAME: '' });
    expect(skipped).toEqual(['tools']);
    expect(services.map(({ name }) => name)).toEqual(['db', 'web']);
    expect(services[0]?.environment).not.toHaveProperty('ABSENT');
    expect(services[1]?.environment).not.toHaveProperty('UNSET');
    expect(services[0]).toMatchObject({
      argv: ['sh', '-c', 'echo "$HOME" && sleep 1'],
      environment: { A: '1', B: 'x=y', INHERITED: 'x=1' },
      restart: { when: 'never' },
    });
    expect(services[1]).toMatchObject({
      argv: ['node', '--import', 'tsx', 'server.mjs', '80'],
      environment: { TOKEN: 's3', DEBUG: 'true', BY_NAME: '' },
      restart: { when: 'on-failure', max: 3 },
      workingDir: 'app',
      volumeSources: ['/var/run/dstack.sock', '/x'],
      hasPorts: true,
      stopGraceMs: 62_500,
      configs: [{ target: '/etc/conf.toml', content: 'token = s3' }],
    });
  });

  it.each([
    ['no YAML', 'services: [', /not valid YAML/],
    ['no services', 'a: 1', /services/],
    ['no object', '- a', /docker-compose/],
    ['an empty list', 'services: {}', /no services/],
    ['a repeated key', 'services:\n  a: {command: x}\n  a: {command: y}', /not valid YAML/],
    ['a bad name', 'services:\n  "../x": {command: x}', /\.\.\/x/],
    [
      'a cycle',
      'services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [a]}',
      /a -> b -> a/,
    ],
    ['an unknown dependency', 'services:\n  a: {command: x, depends_on: [b]}', /does not exist/],
    ['an unknown restart policy', 'services:\n  a: {command: x, restart: sometimes}', /restart policy/],
    ['a bad duration', 'services:\n  a: {command: x, stop_grace_period: soon}', /no duration/],
  ])('refuses %s', (_, text, message) => {
    expect(() => parse(text)).toThrow(message);
    expect(() => parse(text)).toThrow(GuestError);
  });

  it('refuses a service without a command, and says what to do', () => {
    const refusal = expect.objectContaining({
      code: 'compose-unsupported',
      message: expect.stringContaining('Docker'),
    });
    expect(() => service('image: nginx')).toThrow(refusal);
    expect(() => service('command: x\nconfigs: [file]')).toThrow(/no inline content/);
  });

  it('stops an alias bomb', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 9; i++)
      lines.push(
        `a${i}: &a${i} [${Array(9)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      );
    expect(() => parse(`${lines.join('\n')}\nservices: {a: {command: x}}`)).toThrow(/cannot be expanded/);
  });
});

describe('splitCommand', () => {
  it.each([
    ['a  b\tc', ['a', 'b', 'c']],
    [`a 'b c' "d e"f ''`, ['a', 'b c', 'd ef', '']],
    [`a\\ b "x\\"y\\z" 'q\\'`, ['a b', 'x"y\\z', 'q\\']],
    ['', []],
  ])('%s', (text, expected) => expect(splitCommand(text)).toEqual(expected));
  it.each([`'a`, '"a', 'a\\'])('refuses %s', (text) => expect(() => splitCommand(text)).toThrow(GuestError));
});
