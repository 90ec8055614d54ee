import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseAppConfig } from './app-schema.ts';
import { composeBytes } from './compose-bytes.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'compose-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const COMPOSE = 'services:\n  web:\n    image: nginx:alpine\n    ports:\n      - "8080:80"\n';
const PRELAUNCH = '#!/bin/sh\n# Prelaunch script - runs before starting containers\necho café 😀\n';

async function bytesOf(app: Record<string, unknown>, compose = COMPOSE, prelaunch = PRELAUNCH) {
  writeFileSync(join(directory, 'docker-compose.yaml'), compose);
  writeFileSync(join(directory, 'prelaunch.sh'), prelaunch);
  const { config } = parseAppConfig(app, 'app.json');
  return await composeBytes({ directory, path: join(directory, 'app.json'), config });
}
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('app-compose.json', () => {
  it('equals the vector, byte for byte', async () => {
    const { bytes } = await bytesOf({ name: 'demo', allowed_envs: ['API_KEY', 'DATABASE_URL'] });
    expect(bytes.length).toBe(588);
    expect(sha256(bytes)).toBe('1d6adcfaba63cc64c5413c934b4ad6cdad2873c1fb19095e12092b0b93a816a9');
  });

  it('names the key that approves other systems, and only when there is one', async () => {
    const key = 'AB'.repeat(91);
    const { bytes } = await bytesOf({ name: 'demo', key_provider: 'tpm', seal_approval_key: key });
    expect(JSON.parse(Buffer.from(bytes).toString())).toMatchObject({ seal_approval_key: 'ab'.repeat(91) });
    const without = await bytesOf({ name: 'demo', key_provider: 'tpm' });
    expect(Buffer.from(without.bytes).toString()).not.toContain('seal_approval_key');
    expect(() => parseAppConfig({ seal_approval_key: 'abc' }, 'app.json')).toThrow(/seal_approval_key/);
  });

  it('reads CRLF as LF', async () => {
    const plain = await bytesOf({ name: 'demo' });
    const crlf = await bytesOf(
      { name: 'demo' },
      COMPOSE.replaceAll('\n', '\r\n'),
      PRELAUNCH.replaceAll('\n', '\r\n'),
    );
    expect(sha256(crlf.bytes)).toBe(sha256(plain.bytes));
  });

  it('adds the names of .env in order of first occurrence', async () => {
    writeFileSync(join(directory, '.env'), '# c\nZ=1\nexport API_KEY=2\nA = "3\nB=4"\n');
    const { allowedEnvs } = await bytesOf({ name: 'demo', allowed_envs: ['API_KEY'] });
    expect(allowedEnvs).toEqual(['API_KEY', 'Z', 'A']);
  });

  it('has no part of a value, and refuses names that no environment takes', async () => {
    writeFileSync(join(directory, '.env'), 'KEY="-----BEGIN KEY-----\nQUJD=\nREVG=x\n-----END KEY-----"\n');
    const { bytes, allowedEnvs } = await bytesOf({ name: 'demo' });
    expect(allowedEnvs).toEqual(['KEY']);
    expect(new TextDecoder().decode(bytes)).not.toMatch(/QUJD|REVG/);
    await expect(bytesOf({ allowed_envs: ['A-B'] })).rejects.toMatchObject({ code: 'bad_app_json' });
  });

  it('refuses variables that a shipped file does not allow: the guest would drop them', async () => {
    const shipped =
      '{"manifest_version":2,"name":"x","runner":"docker-compose","docker_compose_file":"services: {}","allowed_envs":["A"]}';
    writeFileSync(join(directory, 'exact.json'), shipped);
    writeFileSync(join(directory, '.env'), 'A=1\n');
    expect((await bytesOf({ app_compose_file: 'exact.json' })).allowedEnvs).toEqual(['A']);
    writeFileSync(join(directory, '.env'), 'A=1\nB=2\n');
    await expect(bytesOf({ app_compose_file: 'exact.json' })).rejects.toMatchObject({
      code: 'bad_env',
      found: 'B',
    });
  });

  it('refuses what the guest would refuse, before anything is sent', async () => {
    const newer =
      '{"manifest_version":9,"name":"x","runner":"docker-compose","docker_compose_file":"services: {}"}';
    writeFileSync(join(directory, 'exact.json'), newer);
    await expect(bytesOf({ app_compose_file: 'exact.json' })).rejects.toMatchObject({
      code: 'bad_compose_file',
      message: expect.stringContaining('exact.json'),
    });
  });

  it('keeps what app.json says of the gateway, also without a KMS, as the original does', async () => {
    for (const gateway_enabled of [true, false]) {
      const { bytes } = await bytesOf({ name: 'demo', key_provider: 'none', gateway_enabled });
      expect(JSON.parse(new TextDecoder().decode(bytes))).toMatchObject({ gateway_enabled });
    }
  });

  it('keeps a byte order mark in the measured text, and says so', async () => {
    const compose = '\ufeffservices:\n  web:\n    image: x@sha256:00\n    restart: always\n';
    const { bytes, warnings } = await bytesOf({ name: 'demo' }, compose);
    expect(new TextDecoder().decode(bytes)).toContain('"docker_compose_file": "\\ufeffservices:');
    expect(warnings).toEqual([expect.stringMatching(/^docker-compose\.yaml begins with a byte order mark/)]);
    const both = await bytesOf({ name: 'demo' }, compose, '\ufeffecho hello\n');
    expect(JSON.parse(new TextDecoder().decode(both.bytes))).toMatchObject({
      pre_launch_script: '\ufeffecho hello\n',
    });
    expect(both.warnings).toHaveLength(2);
  });

  it('ships app_compose_file as it is, and refuses one that is none', async () => {
    const text =
      '{"manifest_version":2,"name":"x","runner":"docker-compose","docker_compose_file":"services: {}"}';
    writeFileSync(join(directory, 'exact.json'), text);
    const { bytes } = await bytesOf({ name: 'demo', app_compose_file: 'exact.json' });
    expect(new TextDecoder().decode(bytes)).toBe(text);
    writeFileSync(join(directory, 'exact.json'), '{"name":1}');
    await expect(bytesOf({ app_compose_file: 'exact.json' })).rejects.toMatchObject({
      code: 'bad_compose_file',
    });
  });

  it('names a member of a shipped file that is nearly one that a guest reads', async () => {
    const text =
      '{"manifest_version":2,"name":"x","runner":"bash","bash_script":"x","port_polcy":{},"salt":"x","verity_volume":[]}';
    writeFileSync(join(directory, 'exact.json'), text);
    const { warnings } = await bytesOf({ name: 'demo', app_compose_file: 'exact.json' });
    expect(warnings).toEqual([
      'exact.json: unknown key port_polcy; did you mean port_policy?',
      'exact.json: unknown key verity_volume; did you mean verity_volumes?',
    ]);
  });

  it('warns about what the hash does not cover', async () => {
    const { warnings } = await bytesOf({ name: 'demo' });
    expect(warnings).toEqual([
      expect.stringContaining('image nginx:alpine is not pinned'),
      expect.stringContaining('no restart policy'),
    ]);
  });

  it('warns about paths that are not those of the host', async () => {
    const compose = `services:
  web:
    image: x@sha256:00
    restart: always
    privileged: true
    build: .
    volumes: ["./data:/data", "/var/run/dstack.sock:/var/run/dstack.sock", "named:/x", {type: bind, source: /etc, target: /e}]
`;
    const { warnings } = await bytesOf({ name: 'demo' }, compose);
    expect(warnings).toEqual([
      expect.stringContaining('the build context . does not travel'),
      expect.stringContaining('privileged'),
      expect.stringContaining('./data is a path of the machine'),
      expect.stringContaining('/etc is a path of the machine'),
    ]);
  });

  it('refuses a file that the guest would not take', async () => {
    const huge = `services:\n  web:\n    image: x\n# ${'x'.repeat(262_000)}`;
    await expect(bytesOf({ name: 'demo' }, huge)).rejects.toThrow(/too large|cannot be read/);
  });
});
