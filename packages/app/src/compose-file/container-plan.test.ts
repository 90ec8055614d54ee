// biome-ignore-all lint/suspicious/noTemplateCurlyInString: compose files interpolate with the same signs
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import type { ComposeNode } from './compose-node.ts';
import { emitYaml } from './emit-yaml.ts';
import { type ContainerPlanOptions, type PortMapping, planContainers, readComposeFile } from './index.ts';

const PORTS: readonly PortMapping[] = [{ address: '127.0.0.1', host: 4711, guest: 8080 }];
const plan = (text: string, options: Partial<ContainerPlanOptions> = {}) =>
  planContainers(readComposeFile(text), {
    variables: {},
    project: 'dstack-id',
    ports: PORTS,
    placePath: (path) => (/^[/~]/.test(path) && path !== '/proc' ? `/m${path}` : undefined),
    ...options,
  });
const written = (text: string, options: Partial<ContainerPlanOptions> = {}) =>
  parse(plan(text, options).text);
const service = (members: string, options = {}) => written(`services: {a: {${members}}}`, options).services.a;
const ports = (members: string) => service(`ports: [${members}]`).ports;

describe("what is the machine's own", () => {
  it('names of networks, volumes and containers', () => {
    const text = `
name: everybodys
x-anchor: &a { restart: always }
services:
  one: { <<: *a, container_name: web$$1 }
  two: { container_name: db, networks: [front, back] }
  three: { container_name: "\${NAME}", networks: { front: { aliases: [other], ipv4_address: 10.0.0.2 }, back: } }
  four: { container_name: x, network_mode: host }
volumes: { plain: , named: { name: data, labels: [l] }, disk: { driver_opts: { type: none, o: bind, device: /srv/disk } } }
networks: { front: { name: shared }, back: { external: false } }`;
    const result = written(text, { variables: { NAME: 'three' } });
    expect(result.name).toBeUndefined();
    expect(result['x-anchor']).toBeUndefined();
    expect(result.services).toEqual({
      one: {
        restart: 'always',
        container_name: 'dstack-id-web$$1',
        networks: { default: { aliases: ['web$$1'] } },
      },
      two: {
        container_name: 'dstack-id-db',
        networks: { front: { aliases: ['db'] }, back: { aliases: ['db'] } },
      },
      three: {
        container_name: 'dstack-id-three',
        networks: {
          front: { aliases: ['other', 'three'], ipv4_address: '10.0.0.2' },
          back: { aliases: ['three'] },
        },
      },
      four: { container_name: 'dstack-id-x', network_mode: 'host' },
    });
    expect(result.volumes).toEqual({
      plain: null,
      named: { name: 'dstack-id_data', labels: ['l'] },
      disk: { driver_opts: { type: 'none', o: 'bind', device: '/m/srv/disk' } },
    });
    expect(result.networks).toEqual({ front: { name: 'dstack-id_shared' }, back: { external: false } });
  });

  it('paths, in every place that names one', () => {
    const members = `volumes: [/data:/d:ro, ./rel:/r, "~/h:/h", named:/n, "\${DIR:-/abs}:/x", /proc:/p, {type: bind, source: /long, target: /l, read_only: true}, {type: volume, source: /v, target: /w}]
    , env_file: [/etc/env, ./rel.env, {path: /opt/env, required: false}], build: {context: /src, args: {A: 1}}`;
    expect(service(members)).toMatchObject({
      volumes: [
        '/m/data:/d:ro',
        './rel:/r',
        '/m~/h:/h',
        'named:/n',
        '/m/abs:/x',
        '/proc:/p',
        { type: 'bind', source: '/m/long', target: '/l', read_only: true },
        { type: 'volume', source: '/v', target: '/w' },
      ],
      env_file: ['/m/etc/env', './rel.env', { path: '/m/opt/env', required: false }],
      build: { context: '/m/src', args: { A: 1 } },
    });
    expect(service('build: /src, env_file: /one').build).toBe('/m/src');
    const files = written(
      'services: {a: {}}\nsecrets: {s: {file: /s}, t: {file: ./t}}\nconfigs: {c: {file: /c}}',
    );
    expect(files.secrets).toEqual({ s: { file: '/m/s' }, t: { file: './t' } });
    expect(files.configs).toEqual({ c: { file: '/m/c' } });
  });

  it('a dollar sign in what is written stays one', () => {
    expect(service('volumes: ["/a$$b:/c"]').volumes).toEqual(['/m/a$$b:/c']);
    expect(service('volumes: ["${D}:/c"]', { variables: { D: '/x$y' } }).volumes).toEqual(['/m/x$$y:/c']);
  });

  it.each([
    ['"8080:80"', ['127.0.0.1:4711:80/tcp']],
    ['"4711:80"', ['127.0.0.1:4711:80/tcp']],
    ['"80:80"', ['127.0.0.1:4711:80/tcp']],
    ['"80:80", "8080:90", "53:53/udp"', ['127.0.0.1::80/tcp', '127.0.0.1:4711:90/tcp', '127.0.0.1::53/udp']],
    ['"53:53/udp", 80', ['127.0.0.1::53/udp', '127.0.0.1:4711:80/tcp']],
    ['"0.0.0.0:8080:80"', ['127.0.0.1:4711:80/tcp']],
    ['"8079-8081:1-3"', ['127.0.0.1::1/tcp', '127.0.0.1:4711:2/tcp', '127.0.0.1::3/tcp']],
    ['{target: 80, published: 8080, mode: host}', ['127.0.0.1:4711:80/tcp']],
    ['"${PORT:-8080}:8080"', ['127.0.0.1:4711:8080/tcp']],
  ])('port %s', (text, expected) => expect(ports(text)).toEqual(expected));

  it("says when the port of the machine is nobody's", () => {
    expect(plan('services: {a: {ports: ["80:8000"]}}').notes).toEqual([
      'No service publishes port 8080 of the machine; its URL leads to port 8000 of a',
    ]);
    expect(plan('services: {a: {ports: ["8080:80"]}, b: {}}').notes).toEqual([]);
    expect(plan('services: {a: {ports: ["${PORT:-9}:80"]}}').notes).toEqual([]);
  });

  it('one port of the host leads to one container', () => {
    const { services } = written(
      'services: {a: {ports: ["80:80"]}, b: {ports: ["8080:1"]}, c: {ports: ["8080:2"]}}',
    );
    expect([services.a.ports, services.b.ports, services.c.ports].flat()).toEqual([
      '127.0.0.1::80/tcp',
      '127.0.0.1:4711:1/tcp',
      '127.0.0.1::2/tcp',
    ]);
  });
});

describe('what belongs to others is refused with its place', () => {
  it.each([
    ['volumes', 'services: {a: {}}\nvolumes: {v: {external: true}}', /:2:14: volumes v is external/],
    ['networks', 'services: {a: {}}\nnetworks: {n: {external: {name: host}}}', /networks n is external/],
    ['secrets', 'services: {a: {}}\nsecrets: {s: {external: true}}', /secrets s is external/],
    [
      'a container network',
      'services: {a: {network_mode: "container:x"}}',
      /network_mode names a container of others/,
    ],
    ['a container pid', 'services: {a: {pid: "container:x"}}', /pid names a container/],
    [
      'volumes of a container',
      'services: {a: {volumes_from: ["container:x:ro"]}}',
      /volumes_from names a container/,
    ],
    ['external links', 'services: {a: {external_links: [x]}}', /external_links/],
    ['a range of ports', 'services: {a: {ports: ["1-60000:1-60000"]}}', /range of ports/],
  ])('%s', (_, text, message) => {
    expect(() => plan(text)).toThrow(message);
    expect(() => plan(text)).toThrow(/^docker-compose\.yaml:\d+:\d+: /);
  });
  it('what acts on the host is said', () => {
    const text =
      'services: {a: {privileged: true, pid: host}, b: {privileged: false, network_mode: host}, c: {privileged: true}}';
    expect(plan(text).notes).toEqual([
      'On this platform these act on your own host, not on a machine: pid: host of a; privileged of a, c; network_mode: host of b',
    ]);
  });
});

describe('emitYaml', () => {
  const tree = (value: unknown): ComposeNode =>
    readComposeFile(
      stringify(
        { services: { a: { x: value } } },
        { defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'QUOTE_DOUBLE' },
      ),
    ).root;
  it('what is written is read as it was, by another reader too', () => {
    const key = fc.string({ minLength: 1, maxLength: 8 }).filter((name) => name !== '__proto__');
    const text = fc.oneof(fc.string({ maxLength: 20 }), fc.string({ unit: 'grapheme', maxLength: 8 }));
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        text,
        fc.constant(null),
        fc.dictionary(key, tie('value'), { maxKeys: 4 }),
        fc.array(tie('value'), { maxLength: 4 }),
      ),
    }));
    fc.assert(
      fc.property(value, (one) => {
        expect(parse(emitYaml(tree(one))).services.a.x).toEqual(one);
      }),
    );
  });
  it.each([
    '0022',
    '1e3',
    '12:30',
    'yes',
    'True',
    '.inf',
    '0x1F',
    '2026-01-01',
    '1_000',
    '+1',
    '-.5',
    'on',
    '1.',
    '99999999999999999999',
  ])('%s stays as it is written, for the engine to read', (text) => {
    const { root } = readComposeFile(`services: {a: {x: ${text}, y: "${text}"}}`);
    expect(emitYaml(root)).toContain(`{"x": ${text}, "y": "${text}"}`);
  });
  it.each(['a b', 'text', '-', '1:', 'é', '😀', '#x', '!x', '@', '%', 'a: b'])('%s is text', (text) => {
    const { root } = readComposeFile(`services: {a: {x: ${JSON.stringify(text)}}}`);
    expect(emitYaml(root)).toMatch(/^[\x20-\x7e]*\n$/);
    expect(parse(emitYaml(root)).services.a.x).toBe(text);
  });
});

describeWithFixtures('files from practice', 'public-cases/compose/sixty-services-one-anchor.yaml', () => {
  it('mean the same when they are written out', () => {
    const text = new TextDecoder().decode(fixture('public-cases/compose/sixty-services-one-anchor.yaml'));
    const original = parse(text, { merge: true, maxAliasCount: -1 });
    expect(written(text).services).toEqual(original.services);
  });
});
