import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorChain } from '@dstack-cloud/runtime';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../log.ts';
import { fakeHost } from '../test/fake-host.ts';
import { dockerReady, startDocker } from './start-docker.ts';

const log = createLogger('test');
let dataDir: string;
let daemonFile: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'start-docker-'));
  daemonFile = join(dataDir, 'daemon.json');
  writeFileSync(daemonFile, '{"data-root":"/x","log-driver":"json-file"}');
});
afterEach(() => rmSync(dataDir, { recursive: true }));

function container(id: string, settings: string): string {
  const folder = join(dataDir, 'docker/containers', id);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'hostconfig.json'), settings);
  return join(folder, 'hostconfig.json');
}

describe('Docker', () => {
  it('starts without the containers of an earlier boot', async () => {
    const settings = { Binds: ['/a:/b'], RestartPolicy: { Name: 'always', MaximumRetryCount: 3 } };
    const file = container('a'.repeat(64), JSON.stringify(settings));
    const host = fakeHost();
    await startDocker({ dataDir }, { dockerRegistry: undefined }, host, log, daemonFile);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({
      Binds: ['/a:/b'],
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
    });
    expect(host.commands).toEqual(['systemctl start --no-block docker.service']);
  });

  it('has the mirror of the host, and all else as the image says', async () => {
    const mirror = 'https://mirror.example';
    await startDocker({ dataDir }, { dockerRegistry: mirror }, fakeHost(), log, daemonFile);
    expect(JSON.parse(readFileSync(daemonFile, 'utf8'))).toEqual({
      'data-root': '/x',
      'log-driver': 'json-file',
      'registry-mirrors': [mirror],
    });
  });

  it('that the service manager does not start ends the boot', async () => {
    const host = fakeHost({ ran: () => 1 });
    await expect(
      startDocker({ dataDir }, { dockerRegistry: undefined }, host, log, daemonFile),
    ).rejects.toMatchObject({ message: expect.stringContaining('systemctl') });
  });

  it('that takes too long the first times is started again', async () => {
    let starts = 0;
    const host = fakeHost({ ran: (_, [command]) => (command === 'start' && ++starts < 3 ? 1 : 0) });
    await dockerReady(host, log, new AbortController().signal);
    expect(starts).toBe(3);
  });

  it('that hangs does not hold up a machine that is told to stop', async () => {
    const host = { ...fakeHost({}), run: () => new Promise<never>(() => undefined) };
    const stop = new AbortController();
    const ready = dockerReady(host, log, stop.signal);
    stop.abort(new Error('stopping'));
    await expect(ready).rejects.toThrow('stopping');
    await expect(dockerReady(host, log, stop.signal)).rejects.toThrow('stopping');
  });

  it('that never starts is given up; the host learns how it ended and nothing of its log', async () => {
    const said: string[] = [];
    const host = fakeHost({
      ran: (program, [command]) => {
        if (command === 'start') return 1;
        return program === 'systemctl' ? 'Result=exit-code\n' : 'https://user:secret@registry.example';
      },
    });
    const quiet = {
      ...log,
      warn: (...line: unknown[]) => void said.push(JSON.stringify(line)),
    } as typeof log;
    const error = await dockerReady(host, quiet, new AbortController().signal).catch(
      (cause: unknown) => cause,
    );
    expect(errorChain(error)).toBe(
      'Docker does not start (exit-code) in 4 attempts; start the machine again, with more memory or processors where it took too long, or look at Docker’s log in a development image: systemctl ended with status 1: it failed',
    );
    expect(said).toHaveLength(3);
    expect(said.join()).not.toContain('secret');
    expect(host.commands.filter((one) => one.startsWith('systemctl start'))).toHaveLength(4);
    expect(host.commands.filter((one) => one.startsWith('journalctl'))).toEqual([]);
  });
});
