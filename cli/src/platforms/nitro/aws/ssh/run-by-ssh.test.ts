/** Commands by SSH against a real sshd, and against hosts that are none. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeWithPrograms } from '@dstack-cloud/test/requires';
import { type KeyKind, makeKey, type Sshd, startSshd } from '@dstack-cloud/test/sshd';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hostKeysOfConsole, hostKeyTag, parseHostKey, parseHostKeyTag } from './host-keys.ts';
import { commandFor, runBySsh, type SshTarget } from './run-by-ssh.ts';

const LONGEST_MS = 20_000;
const closers: (() => unknown)[] = [];
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'by-ssh-'));
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  rmSync(folder, { recursive: true, force: true });
});

async function sshd(...hostKeys: KeyKind[]): Promise<Sshd> {
  const started = await startSshd({ hostKeys });
  closers.push(() => started.close());
  return started;
}

/** A host that does with each connection what it is told. */
async function listener(serve: (stream: Socket) => void): Promise<number> {
  const open = new Set<Socket>();
  const server: Server = createServer((stream) => {
    open.add(stream);
    stream.on('error', () => stream.destroy());
    serve(stream);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(async () => {
    for (const stream of open) stream.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as AddressInfo).port;
}

function target({ port, user, loginKey, hostKeys }: Sshd, changes: Partial<SshTarget> = {}): SshTarget {
  const login = { privateKey: new Uint8Array(readFileSync(loginKey)) };
  return { address: '127.0.0.1', port, user, hostKeys: hostKeys.map(parseHostKey), login, ...changes };
}

async function run(
  at: SshTarget,
  script: string,
  options: { signal?: AbortSignal; longestMs?: number; handshakeMs?: number } = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const signal = options.signal ?? new AbortController().signal;
  return await runBySsh(at, 'test', script, { longestMs: LONGEST_MS, ...options, signal });
}

describeWithPrograms('commands by SSH', ['sshd', 'ssh-keygen', 'ssh-agent'], () => {
  it('runs a whole script, with its output and its exit code; nothing in it reads the script', async () => {
    const host = await sshd('ed25519');
    const script = `set -eu\nfail() { echo "it's over" >&2; exit 7; }\ncat\necho "a 'quoted' \\$word"\nfail\necho never`;
    expect(await run(target(host), script)).toEqual({
      ...{ code: 7, stdout: "a 'quoted' $word\n", stderr: "it's over\n" },
    });
    expect(await run(target(host), 'kill -9 $$')).toMatchObject({ code: 1, stderr: '\nended by SIGKILL' });
  });

  it.each<[KeyKind]>([['ed25519'], ['ecdsa-256'], ['ecdsa-384'], ['ecdsa-521'], ['rsa-2048'], ['rsa-4096']])(
    'knows a host by its %s key, also beside others',
    async (kind) => {
      const kinds = [...new Set<KeyKind>(['ed25519', 'ecdsa-256', kind])];
      const host = await sshd(...kinds);
      const pinned = parseHostKey(host.hostKeys[kinds.indexOf(kind)]!);
      const tagged = parseHostKeyTag(hostKeyTag([pinned]));
      expect(await run(target(host, { hostKeys: tagged }), 'echo here')).toMatchObject({ stdout: 'here\n' });
    },
  );

  it('says nothing to a host with another key, or with none of the kind that is expected', async () => {
    const [host, other] = [await sshd('ed25519'), await sshd('ed25519', 'rsa-2048')];
    const meant = target(host).hostKeys;
    const wrong = await run(target(other, { hostKeys: meant }), 'touch /').catch((error: unknown) => error);
    expect(wrong).toMatchObject({
      code: 'refused',
      message: expect.stringContaining('is not the host that is meant'),
      found: `${parseHostKey(other.hostKeys[0]!).type} ${parseHostKey(other.hostKeys[0]!).fingerprint}`,
    });
    const ecdsa = parseHostKey(readFileSync(`${makeKey(join(folder, 'k'), 'ecdsa-256')}.pub`, 'utf8'));
    await expect(run(target(other, { hostKeys: [ecdsa] }), 'true')).rejects.toMatchObject({
      ...{ code: 'refused', found: 'no key of that type' },
    });
    expect(other.log()).not.toMatch(/Accepted|publickey|user/i);
  });

  it('logs in with a key of an agent, and says so when the host does not take a key', async () => {
    const host = await sshd('ed25519');
    const socket = join(folder, 'agent');
    const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
    closers.push(() => agent.kill());
    await expect.poll(() => existsSync(socket)).toBe(true);
    const env = { ...process.env, SSH_AUTH_SOCK: socket };
    const empty = await run(target(host, { login: { agent: socket } }), 'true').catch((e: unknown) => e);
    expect(empty).toMatchObject({ code: 'no_key', message: expect.stringContaining('does not let') });
    execFileSync('ssh-add', ['-q', host.loginKey], { env });
    const at = target(host, { login: { agent: socket } });
    expect(await run(at, 'echo by agent')).toMatchObject({ stdout: 'by agent\n' });
    const stranger = { privateKey: new Uint8Array(readFileSync(makeKey(join(folder, 'no'), 'ed25519'))) };
    await expect(run(target(host, { login: stranger }), 'true')).rejects.toMatchObject({ code: 'no_key' });
    await expect(run(target(host, { user: 'nobody' }), 'true')).rejects.toMatchObject({ code: 'no_key' });
  });

  it.each([
    ['prints', 'while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done'],
    ['complains', 'while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy >&2; done'],
  ])('ends a command that %s for ever', async (_, script) => {
    const host = await sshd('ed25519');
    await expect(run(target(host), script)).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringContaining('prints without end'),
    });
  });

  it('keeps the last of what a command complains about', async () => {
    const host = await sshd('ed25519');
    const script = 'i=0; while [ $i -lt 3000 ]; do echo "line $i" >&2; i=$((i+1)); done; exit 3';
    const { code, stderr } = await run(target(host), script);
    expect([code, stderr.length <= 8192, stderr.endsWith('line 2999\n')]).toEqual([3, true, true]);
  });

  it('ends with its time, with its caller, and with the connection', async () => {
    const host = await sshd('ed25519');
    await expect(run(target(host), 'sleep 30', { longestMs: 1_500 })).rejects.toMatchObject({
      code: 'timed_out',
    });
    const caller = new AbortController();
    const asked = run(target(host), 'sleep 30', { signal: caller.signal });
    setTimeout(() => caller.abort(new Error('interrupted')), 1_000);
    await expect(asked).rejects.toThrow('interrupted');
    const cut = run(target(host), 'sleep 30');
    setTimeout(() => host.cut(), 1_500);
    await expect(cut).rejects.toMatchObject({
      code: 'unreachable',
      message: expect.stringContaining('broke'),
    });
  });

  it('does not run half a script', () => {
    const command = commandFor('root');
    const file = join(folder, 'ran');
    const half = `echo one > ${file}\necho two >> ${file}\n`;
    expect(spawnSync('sh', ['-c', command], { input: half })).toMatchObject({ status: 1 });
    expect(existsSync(file)).toBe(false);
    expect(spawnSync('sh', ['-c', command], { input: `${half}# End of the script\n` }).status).toBe(0);
    expect(readFileSync(file, 'utf8')).toBe('one\ntwo\n');
    expect(commandFor('ec2-user')).toBe(`sudo -n ${command}`);
  });
});

describe('hosts that do not speak SSH', () => {
  const key = parseHostKey(
    `ssh-ed25519 ${Buffer.from('0000000b7373682d65643235353139', 'hex').toString('base64')}AAAA`,
  );
  const at = (port: number): SshTarget => ({
    ...{ address: '127.0.0.1', port, user: 'root', hostKeys: [key], login: { agent: '/nonexistent' } },
  });

  it('a dead one, a silent one, a web server, and one that greets for ever', async () => {
    const dead = await listener(() => undefined);
    await closers.pop()?.();
    await expect(run(at(dead), 'true')).rejects.toMatchObject({ code: 'unreachable', found: 'ECONNREFUSED' });
    const silent = await listener(() => undefined);
    await expect(run(at(silent), 'true', { handshakeMs: 300 })).rejects.toMatchObject({
      code: 'unreachable',
    });
    const web = await listener((stream) => stream.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await expect(run(at(web), 'true', { handshakeMs: 2_000 })).rejects.toMatchObject({ code: 'unreachable' });
    const talker = await listener((stream) => {
      const more = (): void => {
        while (stream.writable && stream.write('x'.repeat(4096))) {}
      };
      stream.on('drain', more);
      more();
    });
    const before = process.memoryUsage().rss;
    await expect(run(at(talker), 'true', { handshakeMs: 1_000 })).rejects.toMatchObject({
      code: 'unreachable',
    });
    expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  });
});

describe('host keys', () => {
  it.each([
    ['', 'nothing'],
    ['SHA256:AAAA', 'a fingerprint alone'],
    ['ssh-dss AAAAB3NzaC1kc3MAAACBAP', 'a DSA key'],
    ['sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAA', 'a key of a token'],
    ['ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==', 'a type that the key contradicts'],
    ['ssh-ed25519 not*base64', 'no base64'],
  ])('%j is refused: %s', (text) => {
    expect(() => parseHostKey(text)).toThrow(/no public key of a host/);
  });

  it('are read from the last block that cloud-init printed on a console', () => {
    const [old, now] = ['old', 'now'].map((name) =>
      readFileSync(`${makeKey(join(folder, name), 'ed25519')}.pub`, 'utf8').trim(),
    );
    const block = (line = ''): string =>
      `ci-info: x\r\n-----BEGIN SSH HOST KEY KEYS-----\r\n${line} root@ip\r\nnoise\r\n-----END SSH HOST KEY KEYS-----\r\n`;
    expect(hostKeysOfConsole(`[ 1.0] boot\n${block(old)}[ 2.0]\n${block(now)}login:`)).toEqual([
      parseHostKey(now!),
    ]);
    expect(hostKeysOfConsole('-----BEGIN SSH HOST KEY KEYS-----\nssh-ed')).toEqual([]);
    expect(() => parseHostKeyTag('ssh-ed25519=SHA256:short')).toThrow(/damaged/);
  });
});
