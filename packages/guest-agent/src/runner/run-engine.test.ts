import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseEngine } from './engine.ts';
import { type EngineRunOptions, runEngine } from './run-engine.ts';

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'dstack-engine-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A program named docker that notes its arguments and the variable TOKEN, and fails at one subcommand. */
function fakeDocker(failing = 'nothing'): void {
  const script = `#!/bin/sh
echo "$TOKEN $*" >> "${dir}/calls"
case "$*" in
  *" logs "*) echo "line of web"; exit 0 ;;
  *" ${failing}"*) echo "no such image"; exit 17 ;;
esac
`;
  writeFileSync(join(dir, 'docker'), script, { mode: 0o755 });
}
const calls = (): string[] => readFileSync(join(dir, 'calls'), 'utf8').trimEnd().split('\n');
const options = (output: string[]): EngineRunOptions => ({
  engine: 'docker',
  composeText: `services:
  web:
    image: x
    volumes:
      - /var/run/dstack.sock:/var/run/dstack.sock
      - {type: bind, source: /run/tappd.sock, target: /t.sock}
      - data:/data`,
  env: { PATH: `${dir}:${process.env['PATH']}`, TOKEN: 's3' },
  project: 'dstack-x',
  workDir: dir,
  logDir: join(dir, 'logs'),
  sockets: { dstack: '/machine/dstack.sock', tappd: '/machine/tappd.sock' },
  onOutput: (bytes) => output.push(Buffer.from(bytes).toString()),
});

describe('runEngine', () => {
  it('starts, copies logs, and stops with the decrypted environment for interpolation only', async () => {
    fakeDocker();
    const app = await runEngine(options([]));
    expect(app.services).toEqual(['web']);
    await expect.poll(() => readFileSync(join(dir, 'logs/web.log'), 'utf8')).toBe('line of web\n');
    await app.stop();
    const files = `-f ${dir}/docker-compose.yaml -f ${dir}/docker-compose.sockets.json`;
    expect(calls()).toEqual([
      `s3 compose -p dstack-x ${files} up --remove-orphans -d --build`,
      `s3 compose -p dstack-x ${files} logs --follow --no-color --no-log-prefix web`,
      `s3 compose -p dstack-x ${files} down --timeout 5`,
    ]);
    expect(readFileSync(join(dir, 'docker-compose.yaml'), 'utf8')).toBe(options([]).composeText);
    expect(JSON.parse(readFileSync(join(dir, 'docker-compose.sockets.json'), 'utf8'))).toEqual({
      services: {
        web: {
          volumes: [
            { type: 'bind', source: '/machine/dstack.sock', target: '/var/run/dstack.sock' },
            { type: 'bind', source: '/machine/tappd.sock', target: '/t.sock' },
          ],
        },
      },
    });
  });

  it('takes down what a failed start left', async () => {
    fakeDocker('up');
    const output: string[] = [];
    await expect(runEngine(options(output))).rejects.toMatchObject({ code: 'start-failed' });
    expect(output.join('')).toContain('no such image');
    expect(calls().at(-1)).toMatch(/ down$/);
  });
});

describe('chooseEngine', () => {
  const answering =
    (...engines: string[]) =>
    (command: readonly string[]) =>
      Promise.resolve(engines.includes(command[0] ?? ''));
  it('takes the first that answers, else plain processes', async () => {
    expect(await chooseEngine('auto', answering('docker', 'podman'))).toBe('docker');
    expect(await chooseEngine('auto', answering('podman'))).toBe('podman');
    expect(await chooseEngine('auto', answering())).toBe('process');
    expect(await chooseEngine('process', answering('docker'))).toBe('process');
  });
  it('does not fall back from an engine that was asked for', async () => {
    await expect(chooseEngine('docker', answering('podman'))).rejects.toMatchObject({
      code: 'engine-missing',
    });
  });
});
