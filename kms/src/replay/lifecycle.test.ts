/** What was seen of the original's starts and restarts: refused configurations, missing and half-written files. */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeWithFixtures } from '@dstack-cloud/test/fixtures';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkConfig } from '../config/check-config.ts';
import { ask, call } from '../test/ask.ts';
import { type Lab, openLab } from '../test/lab.ts';
import { startReceiver } from '../test/receiver.ts';
import { recordedDirectory, writeRecordedDirectory } from '../test/recorded-kms.ts';
import { observations } from '../test/replay-plan.ts';

const plain = { plain: true };
const seen = (id: string): Record<string, string> =>
  observations('lifecycle').find((item) => item.id === id) as unknown as Record<string, string>;

/** Names of the files that differ between two recorded listings of `name=hash`. */
function changed(before: string, after: string): string[] {
  const hashes = new Map(
    before
      .trim()
      .split(' ')
      .map((entry) => entry.split('=') as [string, string]),
  );
  return after
    .trim()
    .split(' ')
    .map((entry) => entry.split('=') as [string, string])
    .filter(([name, hash]) => hashes.get(name) !== hash)
    .map(([name]) => name);
}

describeWithFixtures('replay of the life of a process', 'kms-original/full/lifecycle.json', () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await openLab();
  });
  afterAll(() => lab.close());

  /** A directory with some of the files that the original made. */
  function directoryWith(name: string, keep: (file: string) => boolean): string {
    const directory = join(lab.directory, name);
    const recorded = recordedDirectory('kmsA');
    const files = Object.entries(recorded.files).filter(([file]) => keep(file));
    mkdirSync(directory, { recursive: true });
    writeRecordedDirectory(directory, { ...recorded, files: Object.fromEntries(files) });
    return directory;
  }
  const contents = (directory: string): Map<string, string> =>
    new Map(
      readdirSync(directory, { withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ name }) => [name, readFileSync(join(directory, name), 'hex')]),
    );
  const changes = (before: Map<string, string>, after: Map<string, string>): string[] =>
    [...after].filter(([name, content]) => before.get(name) !== content).map(([name]) => name);

  test('lifecycle/restart: the RPC certificate is issued anew, nothing else changes', async () => {
    const directory = directoryWith('restart', () => true);
    await (await lab.start({ directory })).close();
    const before = contents(directory);
    await (await lab.start({ directory })).close();
    const { before: was, after: is } = seen('restart');
    expect(changes(before, contents(directory))).toEqual(changed(was!, is!));
  });

  test('lifecycle/auto-bootstrap-with-rpc.crt-missing: there the root was replaced; here it never is', async () => {
    const { before: was, after: is } = seen('auto-bootstrap-with-rpc.crt-missing');
    expect(changed(was!, is!)).toContain('root-k256.key');
    const directory = directoryWith('auto', (name) => name !== 'rpc.crt');
    const before = contents(directory);
    const core = { onboard: { address: '127.0.0.1', port: 0, auto_bootstrap_domain: 'kms.lab.test' } };
    await (await lab.start({ directory, core })).close();
    expect(changes(before, contents(directory))).toEqual(['rpc.crt']);
  });

  describe('an interrupted bootstrap of the original: bootstrap-info.json alone', () => {
    test('lifecycle/bootstrap-after-crash-between-first-two-files: refused for ever there, done again here', async () => {
      expect(seen('bootstrap-after-crash-between-first-two-files')['answer']).toMatch(
        /already been bootstrapped/,
      );
      const directory = directoryWith('interrupted', (name) => name === 'bootstrap-info.json');
      const stale = contents(directory).get('bootstrap-info.json');
      const receiver = await startReceiver(lab, directory);
      const { status, json } = await call(receiver.port, 'Bootstrap', { domain: 'kms.lab.test' }, plain);
      expect(status).toBe(200);
      expect(contents(directory).get('bootstrap-info.json')).not.toBe(stale);
      await call(receiver.port, 'Finish', {}, plain);
      const { main } = await receiver.serving;
      expect((await call(main.port, 'GetMeta')).json['k256_pubkey']).toBe(json['k256_pubkey']);
    });

    test('lifecycle/onboard-after-same-crash: a source that is not there is an error, and no more', async () => {
      expect(seen('onboard-after-same-crash')['answer']).toMatch(/Failed to onboard: /);
      const directory = directoryWith('interrupted-2', (name) => name === 'bootstrap-info.json');
      const receiver = await startReceiver(lab, directory);
      const input = { source_url: 'https://127.0.0.1:9', domain: 'kms.lab.test' };
      expect((await call(receiver.port, 'Onboard', input, plain)).json['error']).toMatch(
        /^Failed to onboard: /,
      );
      receiver.stop.abort();
    });
  });

  test('lifecycle/finish-before-keys, lifecycle/process-after-finish-before-keys: there OK and exit 1, here 409 and alive', async () => {
    expect([seen('finish-before-keys')['answer'], seen('process-after-finish-before-keys')['alive']]).toEqual(
      ['OK', 'no'],
    );
    const receiver = await startReceiver(lab, join(lab.directory, 'early'));
    expect((await ask(receiver.port, '/finish', { method: 'GET', ...plain })).status).toBe(409);
    expect((await ask(receiver.port, '/health', { method: 'GET', ...plain })).body.toString()).toBe('OK');
    receiver.stop.abort();
  });

  test('lifecycle/bootstrap-with-roots-but-no-certs: refused for ever there; ours serves with the roots that it finds', async () => {
    expect(seen('bootstrap-with-roots-but-no-certs')['answer']).toMatch(/already been bootstrapped/);
    const directory = directoryWith('roots-only', (name) => ['root-ca.key', 'root-k256.key'].includes(name));
    const before = contents(directory);
    const core = { onboard: { address: '127.0.0.1', port: 0, auto_bootstrap_domain: 'kms.lab.test' } };
    const running = await lab.start({ directory, core });
    expect((await call(running.main.port, 'GetMeta')).status).toBe(200);
    await running.close();
    expect(
      changes(before, contents(directory)).filter(
        (name) => name.startsWith('root-') && name.endsWith('.key'),
      ),
    ).toEqual([]);
  });

  test('lifecycle/start-without-agent: no start with a certificate without evidence', async () => {
    expect(seen('start-without-agent')['alive']).toBe('no (exit 1)');
    const directory = directoryWith('no-agent', () => true);
    const agent = {
      attest: () => Promise.reject(new Error('no agent')),
      vmConfig: () => Promise.reject(new Error('no agent')),
      close: () => undefined,
    };
    await expect(lab.start({ directory, options: { agent } })).rejects.toThrow(/RPC certificate/);
  });

  test.each([
    [
      'lifecycle/external-roots-without-flag',
      { attestation: { root_ca: { tdx: '/nowhere.pem' } } },
      /insecure_allow_external_trust_anchors is false/,
    ],
    [
      'lifecycle/admin-without-credential',
      { admin: { enabled: true } },
      /neither auth_token nor htpasswd_file/,
    ],
    // There an unknown key was dropped in silence and the process ran (exit 124 is the recorder's time-out).
    ['lifecycle/unknown-core-keys', { no_such_key: 1 }, /no_such_key/],
  ])('%s: refused', (name, core, text) => {
    const { exit } = seen(name.slice('lifecycle/'.length)) as unknown as { exit: string };
    expect(['1', '124']).toContain(exit);
    expect(() => checkConfig({ core }, {})).toThrow(text);
  });
});
