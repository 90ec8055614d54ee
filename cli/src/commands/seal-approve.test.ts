import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { composeHash, defaultAppId, instanceId } from '@dstack-cloud/app';
import {
  identityEvents,
  predictUki,
  readUki,
  runtimeEventDigest,
  webCrypto,
} from '@dstack-cloud/attestation';
import {
  approvedBytes,
  extendPcr,
  openSealedSeed,
  parseSealApproval,
  type Tpm,
  withTpm,
} from '@dstack-cloud/attestation/attester';
import { fromHex, toHex, utf8 } from '@dstack-cloud/encoding';
import { writeUki } from '@dstack-cloud/os-image';
import { describeWithSwtpm, type SoftwareTpm, startSwtpm } from '@dstack-cloud/test/swtpm';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type Outcome, Sandbox } from '../testing.ts';

// The modules of a command are loaded when it runs first, which takes long on a loaded machine.
vi.setConfig({ testTimeout: 120_000 });

const IMAGES = '.local/share/dstack-cloud/images';
const SEED = '22'.repeat(20);

/** An image as far as its registers go: neither stub nor kernel would run. */
function ukiOf(version: string, kernel: Uint8Array = ukiOf(version, new Uint8Array(9000))): Uint8Array {
  const program = new Uint8Array(4096 + 0x71);
  program.set(utf8('DSTKSTUB'), 4096);
  return writeUki({
    stub: { program, dataStart: 4096, entry: 0x10 },
    osRelease: utf8(`VERSION_ID=${version}\n`),
    commandLine: `console=ttyS0 version=${version}${version.endsWith('-dev') ? ' dstack.flavour=dev' : ''}`,
    initrd: new Uint8Array(100).fill(1),
    kernel,
  });
}

const pem = (key: KeyObject): string =>
  String(
    key.type === 'private'
      ? key.export({ format: 'pem', type: 'pkcs8' })
      : key.export({ format: 'pem', type: 'spki' }),
  );

describeWithSwtpm('seal approve', () => {
  let sandbox: Sandbox;
  let software: SoftwareTpm;
  const owner = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const approver = new Uint8Array(owner.publicKey.export({ format: 'der', type: 'spki' }));
  beforeEach(async () => {
    sandbox = new Sandbox();
    software = await startSwtpm();
    for (const version of ['1.0', '2.0', '2.1-dev']) image(version);
    sandboxFile('owner.pem', pem(owner.privateKey), 0o600);
    sandboxFile('owner.pub', pem(owner.publicKey));
    sandboxFile('.instance_info', JSON.stringify({ instance_id_seed: SEED }));
    for (const name of ['one', 'two']) sandboxFile(`${name}.json`, compose(name));
  });
  afterEach(async () => {
    await software.stop();
    sandbox.remove();
  });

  const sandboxFile = (name: string, content: string | Uint8Array, mode = 0o644): void =>
    writeFileSync(sandbox.path(name), content, { mode });
  const image = (version: string): void => {
    const folder = sandbox.path(IMAGES, `os-${version}`);
    mkdirSync(folder, { recursive: true });
    const metadata = { kernel: 'bzImage', initrd: 'initrd', cmdline: 'console=ttyS0', version };
    writeFileSync(`${folder}/metadata.json`, JSON.stringify(metadata));
    for (const file of ['bzImage', 'initrd', 'sha256sum.txt']) writeFileSync(`${folder}/${file}`, '');
    writeFileSync(`${folder}/uki.efi`, ukiOf(version));
  };
  const compose = (name: string): string =>
    JSON.stringify({
      ...{ manifest_version: 2, name, runner: 'bash', bash_script: 'true', init_script: 'echo' },
      ...{ key_provider: 'tpm', seal_approval_key: toHex(approver) },
    });

  /** A boot from power-on, as firmware and guest measure it. */
  async function boot(version: string, app: string, more?: (tpm: Tpm) => Promise<unknown>): Promise<void> {
    await software.restart();
    await withTpm(software.location, async (tpm) => {
      const none = { gptDigest: new Uint8Array(32), measuredSections: [] };
      for (const digest of predictUki(readUki(ukiOf(version)), none, webCrypto).pcr4)
        await extendPcr(tpm, 4, { sha256: digest });
      const hash = composeHash(utf8(compose(app)));
      const events = identityEvents({
        appId: defaultAppId(hash),
        composeHash: hash,
        initScriptHashes: [new Uint8Array(createHash('sha256').update('echo').digest())],
        instanceId: instanceId(fromHex(SEED), defaultAppId(hash)),
      });
      for (const event of events) await extendPcr(tpm, 14, { sha256: runtimeEventDigest(event, 'sha256') });
      await more?.(tpm);
    });
  }
  const seed = (approval?: string) =>
    withTpm(software.location, (tpm) =>
      openSealedSeed(tpm, {
        approver,
        ...(approval === undefined
          ? {}
          : { approval: parseSealApproval(readFileSync(sandbox.path(approval))) }),
      }),
    );
  /** Seals for one system, boots another, and keeps what the guest then says as the log. */
  async function refused(version = '2.0', app = 'two', more?: (tpm: Tpm) => Promise<unknown>): Promise<void> {
    await boot('1.0', 'one');
    await seed();
    await boot(version, app, more);
    const error = await seed().then(
      () => undefined,
      (thrown: Error) => thrown,
    );
    sandboxFile('serial.log', `[ 1.0] other lines\n{"level":50,"error":${JSON.stringify(error?.message)}}\n`);
  }
  const approve = (...args: string[]): Promise<Outcome> =>
    sandbox.run('seal', 'approve', 'serial.log', '--yes', ...args);
  const WITH_KEY = ['--key-file', 'owner.pem'];
  const WITH_APP = ['--compose', 'two.json', '--instance', '.instance_info'];
  const notWritten = (): void => expect(existsSync(sandbox.path('.seal-approval.json'))).toBe(false);

  it('lets the system that it showed have the seed, once', async () => {
    await refused();
    const { code, stdout, stderr } = await approve(...WITH_KEY, ...WITH_APP, '--accept', '0,2');
    expect([code, stderr]).toEqual([
      0,
      expect.stringContaining('dstack-cloud deploy hands it to the machine'),
    ]);
    expect(stdout).toMatch(
      /PCR 4, boot applications \(changed\)\n {2}was [0-9a-f]{64} {2}image os-1\.0 \(1\.0\)\n {2}is {2}[0-9a-f]{64}\n {2}image os-2\.0 \(2\.0\)\n/,
    );
    expect(stdout).toMatch(
      /PCR 14, application \(changed\)\n.*\n.*\n {2}two\.json \(compose hash [0-9a-f]{64}/,
    );
    expect(stdout).toMatch(/PCR 0, firmware\n {2}is {2}0{64}\n {2}taken as it is \(--accept\)\n/);
    expect(await seed('.seal-approval.json')).toMatchObject({ how: 'resealed', number: 2 });
    await boot('1.0', 'one');
    await expect(seed('.seal-approval.json')).rejects.toThrow(/each serves once/);
  });

  it('serves for the system that it was given for alone', async () => {
    await refused();
    expect((await approve(...WITH_KEY, ...WITH_APP, '--accept', '0,2')).code).toBe(0);
    await boot('2.0', 'one');
    await expect(seed('.seal-approval.json')).rejects.toThrow(/the approval is for another system/);
  });

  it('takes a signature of a key that is kept elsewhere, as bytes and as DER', async () => {
    await refused();
    const system = ['--public-key', 'owner.pub', ...WITH_APP, '--accept', '0,2'];
    const first = await approve(...system, '--to-sign', 'message', '--json');
    expect([first.code, first.stderr]).toEqual([0, expect.stringContaining('ECDSA P-256')]);
    expect(JSON.parse(first.stdout)).toMatchObject({ number: 2, to_sign: 'message', output: null });
    notWritten();
    const message = readFileSync(sandbox.path('message'));
    for (const dsaEncoding of ['ieee-p1363', 'der'] as const) {
      sandboxFile('signature', sign('sha256', message, { key: owner.privateKey, dsaEncoding }));
      expect((await approve(...system, '--signature', 'signature')).code).toBe(0);
    }
    sandboxFile('signature', sign('sha256', Buffer.from('other'), owner.privateKey));
    const wrong = await approve(...system, '--signature', 'signature');
    expect([wrong.code, wrong.stderr]).toEqual([4, expect.stringContaining('no signature of this key')]);
    expect(await seed('.seal-approval.json')).toMatchObject({ how: 'resealed' });
  });

  it('signs with no other key than the one that the seal names; the guest refuses what another one signed', async () => {
    await refused();
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    sandbox.env = { SEAL_APPROVAL_KEY: pem(other.privateKey) };
    const { code, stderr } = await approve(...WITH_APP, '--accept', '0,2');
    expect([code, stderr]).toEqual([4, expect.stringContaining('not the key that the seal names')]);
    notWritten();
    const [, number, policy] = /approval (\d+) of policy ([0-9a-f]{64}) by/.exec(
      readFileSync(sandbox.path('serial.log'), 'utf8'),
    )!;
    const { message } = approvedBytes({ policy: fromHex(policy!), number: Number(number) });
    const signature = toHex(
      new Uint8Array(sign('sha256', message, { key: other.privateKey, dsaEncoding: 'ieee-p1363' })),
    );
    sandboxFile('forged', JSON.stringify({ version: 1, policy, number: Number(number), signature }));
    await expect(seed('forged')).rejects.toThrow(/not signed by the key that the seal names/);
  });

  it.each<[string, string[], RegExp]>([
    [
      'an application that nothing shows',
      ['--accept', '0,2'],
      /PCR 14 of this system is right.*--compose FILE/s,
    ],
    [
      'another application',
      ['--compose', 'one.json', '--instance', '.instance_info', '--accept', '0,2'],
      /PCR 14 of this system is not that of one\.json/,
    ],
    ['another image', [...WITH_APP, '--image', 'os-1.0', '--accept', '0,2'], /not that of image os-1\.0/],
    ['firmware that nothing shows', WITH_APP, /Nothing shows that PCR 0, 2 of this system is right/],
    [
      'another firmware than is known',
      [...WITH_APP, '--accept', '2', '--expect', `0=${'11'.repeat(32)}`],
      /PCR 0 of this system is not that of --expect/,
    ],
    ['no seed of the instance', ['--compose', 'two.json', '--accept', '0,2'], /has an instance id/],
  ])('signs nothing for %s', async (_, args, message) => {
    await refused();
    const { code, stderr } = await approve(...WITH_KEY, ...args);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(message);
    notWritten();
  });

  it('signs nothing for a system that took something from beside its image, whatever is accepted', async () => {
    await refused('2.0', 'two', (tpm) => extendPcr(tpm, 12, { sha256: new Uint8Array(32) }));
    const { code, stderr } = await approve(...WITH_KEY, ...WITH_APP, '--accept', '0,2,12');
    expect([code, stderr]).toEqual([
      4,
      expect.stringMatching(/PCR 12 .* takes nothing from beside the image/),
    ]);
    notWritten();
  });

  it('signs for a system of an image for development only where that is named', async () => {
    await refused('2.1-dev');
    const { code, stderr } = await approve(...WITH_KEY, ...WITH_APP, '--accept', '0');
    expect([code, stderr]).toEqual([4, expect.stringMatching(/Nothing shows that PCR 2, 4 .* is right/)]);
    notWritten();
    const named = await approve(...WITH_KEY, ...WITH_APP, '--accept', '0,2', '--image', 'os-2.1-dev');
    expect([named.code, named.stdout]).toEqual([0, expect.stringContaining('(2.1-dev, for development)')]);
  });

  it('takes neither image nor application as they are, nor what may have the image in the place of PCR 4', async () => {
    await refused('2.0', 'two', (tpm) => extendPcr(tpm, 4, { sha256: new Uint8Array(32) }));
    for (const accepted of ['0,2,4', '0,2,14']) {
      const { code, stderr } = await approve(...WITH_KEY, ...WITH_APP, '--accept', accepted);
      expect([code, stderr]).toEqual([2, expect.stringMatching(/PCR (4|14) says which system asks/)]);
    }
    const pcr4 = / 4=([0-9a-f]{64})/.exec(readFileSync(sandbox.path('serial.log'), 'utf8'))![1]!;
    const known = [...WITH_KEY, ...WITH_APP, '--accept', '0,2', '--expect', `4=${pcr4}`];
    const { code, stderr } = await approve(...known);
    expect([code, stderr]).toEqual([4, expect.stringMatching(/Nothing shows that PCR 2 of this system/)]);
    notWritten();
    expect((await approve(...known, '--expect', `2=${'00'.repeat(32)}`)).code).toBe(0);
  });

  it('asks before it signs, and does not replace a file that is no approval', async () => {
    await refused();
    const args = [...WITH_KEY, ...WITH_APP, '--accept', '0,2'];
    const asked = await sandbox.run('seal', 'approve', 'serial.log', ...args);
    expect([asked.code, asked.stderr]).toEqual([4, expect.stringContaining('Approve this system?')]);
    notWritten();
    const taken = await approve(...args, '--output', 'owner.pem');
    expect([taken.code, taken.stderr]).toEqual([1, expect.stringContaining('is there and is no approval')]);
    sandboxFile('serial.log', 'nothing of the kind');
    expect((await approve(...args)).stderr).toContain('has no refusal of a sealed seed');
    expect((await sandbox.run('seal', 'approve', 'missing.log', ...args)).code).toBe(3);
  });
});

it('seal key prints what app-compose.json names, and takes keys on P-256 alone', async () => {
  const sandbox = new Sandbox();
  try {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    sandbox.env = { SEAL_APPROVAL_KEY: pem(privateKey) };
    const { code, stdout } = await sandbox.run('seal', 'key', '--json');
    const { seal_approval_key: shown } = JSON.parse(stdout) as { seal_approval_key: string };
    expect([code, shown]).toEqual([0, publicKey.export({ format: 'der', type: 'spki' }).toString('hex')]);
    const locked = privateKey.export({
      ...{ format: 'pem', type: 'pkcs8', cipher: 'aes-256-cbc', passphrase: 'open' },
    } as const);
    writeFileSync(sandbox.path('locked.pem'), locked, { mode: 0o600 });
    writeFileSync(sandbox.path('password'), 'open\n', { mode: 0o600 });
    expect((await sandbox.run('seal', 'key', '--key-file', 'locked.pem')).stderr).toContain(
      'is encrypted: pass --password-file',
    );
    expect(
      (await sandbox.run('seal', 'key', '--key-file', 'locked.pem', '--password-file', 'password')).stdout,
    ).toContain(shown);
    for (const [text, message] of [
      [pem(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).privateKey), /Expected: .*P-256/s],
      [pem(generateKeyPairSync('ed25519').privateKey), /no TPM takes/],
      ['not a key', /no key in PEM that can be read/],
    ] as const) {
      sandbox.env = { SEAL_APPROVAL_KEY: text };
      const refused = await sandbox.run('seal', 'key');
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(message)]);
      expect(refused.stderr).not.toContain(text.split('\n')[1] ?? text);
    }
    sandbox.env = {};
    expect((await sandbox.run('seal', 'key')).stderr).toContain('Set SEAL_APPROVAL_KEY');
  } finally {
    sandbox.remove();
  }
});
