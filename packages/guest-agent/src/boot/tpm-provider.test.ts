/** Key provider `tpm`: whole boots with a real software TPM, in which a recorded firmware log was measured. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AppKeysFile, parseAppKeys } from '@dstack-cloud/app';
import { EV_NO_ACTION, parseBootLog } from '@dstack-cloud/attestation';
import { approvedBytes, extendPcr, serializeSealApproval, withTpm } from '@dstack-cloud/attestation/attester';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import { errorChain } from '@dstack-cloud/runtime';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { describeWithSwtpm, type SoftwareTpm, startSwtpm } from '@dstack-cloud/test/swtpm';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseGuestConfig } from '../config/guest-config.ts';
import { GuestError } from '../errors.ts';
import { SoftwareDevice } from '../test/software-device.ts';
import { prepare } from './prepare.ts';

const LOG = 'measured-boot/eventlog.bin';

describeWithFixtures('key provider tpm', LOG, () => {
  describeWithSwtpm('on a machine with a software TPM', () => {
    let root: string;
    let software: SoftwareTpm;
    let device: SoftwareDevice;
    beforeEach(async () => {
      root = mkdtempSync(join(tmpdir(), 'dstack-tpm-'));
      mkdirSync(join(root, 'tmp/.host-shared'), { recursive: true });
      software = await startSwtpm();
      writeFileSync(join(root, 'log'), fixture(LOG));
    });
    afterEach(async () => {
      await software.stop();
      rmSync(root, { recursive: true, force: true });
    });

    const owner = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const approver = owner.publicKey.export({ format: 'der', type: 'spki' }).toString('hex');
    const share = (name: string, content: string): void =>
      writeFileSync(join(root, 'tmp/.host-shared', name), content);
    const shareApp = (script: string, members: object = {}): void => {
      const compose = {
        manifest_version: 2,
        name: 'x',
        runner: 'bash',
        bash_script: script,
        secure_time: false,
      };
      const app = { ...compose, storage_fs: 'ext4', key_provider: 'tpm', seal_approval_key: approver };
      share('app-compose.json', JSON.stringify({ ...app, ...members }));
      share('.sys-config.json', JSON.stringify({ kms_urls: [], vm_config: '{"os_image_hash":""}' }));
      share('.instance_info', JSON.stringify({ app_id: '11'.repeat(20), instance_id_seed: '22'.repeat(20) }));
    };
    /** What the owner signs after they have looked at what changed. */
    const approve = (policy: string, number: number): void => {
      const bytes = fromHex(policy);
      const { message } = approvedBytes({ policy: bytes, number });
      const options = { key: owner.privateKey, dsaEncoding: 'ieee-p1363' } as const;
      const signature = new Uint8Array(sign('sha256', message, options));
      share('.seal-approval.json', serializeSealApproval({ policy: bytes, number, signature }));
    };
    /** One boot from power-on: the firmware measures, the guest prepares. */
    const boot = async (
      logs: { firmware?: Uint8Array; measured?: Uint8Array } = {},
    ): Promise<AppKeysFile> => {
      const firmware = logs.firmware ?? fixture(LOG);
      const measured = logs.measured ?? firmware;
      await software.restart();
      await withTpm(software.location, async (tpm) => {
        for (const { type, index, digests } of parseBootLog(measured).events)
          if (type !== EV_NO_ACTION) await extendPcr(tpm, index, { sha256: digests.get('sha256')! });
      });
      writeFileSync(join(root, 'log'), firmware);
      device = new SoftwareDevice();
      const tpm = { device: software.location, event_log: join(root, 'log') };
      await prepare({
        config: parseGuestConfig(JSON.stringify({ root, tpm }), root),
        openDevice: () => Promise.resolve(device),
        notify: () => Promise.resolve(),
        log: pino({ level: 'silent' }),
      });
      return parseAppKeys(readFileSync(appKeys()));
    };
    const appKeys = () => join(root, 'dstack/.host-shared/.appkeys.json');
    const bootError = async (options?: Parameters<typeof boot>[0]): Promise<GuestError> => {
      const error = await boot(options).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      expect(error).toBeInstanceOf(GuestError);
      return error as GuestError;
    };
    const refused = async (options?: Parameters<typeof boot>[0]): Promise<GuestError> => {
      const error = await bootError(options);
      // Nothing was decided, and nothing is left.
      expect(device.names.at(-1)).toBe('boot-mr-done');
      expect(existsSync(appKeys())).toBe(false);
      return error;
    };

    it('gives the same keys at every boot, and says so in the event', async () => {
      shareApp('true');
      const first = await boot();
      expect(first.keyProvider).toMatchObject({ kind: 'tpm', pubkey: expect.any(Uint8Array) });
      const again = await boot();
      expect([again.diskCryptKey, again.k256Key]).toEqual([first.diskCryptKey, first.k256Key]);
      const event = device.emitted.find((one) => one.event === 'key-provider');
      const id = first.keyProvider.kind === 'tpm' ? toHex(first.keyProvider.pubkey) : '';
      expect(JSON.parse(utf8Text(event!.payload))).toEqual({ name: 'tpm', id });
    });

    it('refuses a changed application with the reason, and lets it in when the owner approves, once', async () => {
      shareApp('true');
      const { diskCryptKey } = await boot();
      shareApp('false');
      const error = await refused();
      expect(error.code).toBe('seal-refused');
      expect(errorChain(error)).toMatch(
        /PCR 14 \(application\) was [0-9a-f]{64} and is .*no approval for this system/,
      );
      const [, number, policy] = /^approval (\d+) of policy ([0-9a-f]{64})$/.exec(error.expected!)!;
      approve('00'.repeat(32), Number(number));
      expect(errorChain(await refused())).toContain('the approval is for another system');
      approve(policy!, Number(number));
      expect((await boot()).diskCryptKey).toEqual(diskCryptKey);
      expect((await boot()).diskCryptKey).toEqual(diskCryptKey);
      // The application before has lost its right.
      shareApp('true');
      expect((await refused()).code).toBe('seal-refused');
      shareApp('false');
      expect((await boot()).diskCryptKey).toEqual(diskCryptKey);
    });

    it('refuses an application that is changed where it names no key for approvals', async () => {
      shareApp('true', { seal_approval_key: '' });
      await boot();
      shareApp('false');
      expect(errorChain(await refused())).toContain('without a key that could approve');
    });

    it('refuses an application that is given an approval that is none', async () => {
      shareApp('true');
      share('.seal-approval.json', '{');
      const error = await refused();
      expect([error.code, errorChain(error)]).toEqual([
        'key-provider-failed',
        expect.stringMatching(/is not JSON/),
      ]);
    });

    it('refuses an application that names no key, before anything of it is measured', async () => {
      shareApp('true', { seal_approval_key: '00'.repeat(91) });
      const error = await bootError();
      expect([error.code, errorChain(error)]).toEqual([
        'host-shared-invalid',
        expect.stringMatching(/seal_approval_key: .*DER of a P-256 key/),
      ]);
      expect(device.names).toEqual([]);
      expect(existsSync(appKeys())).toBe(false);
    });

    it('refuses a log with a line that was not measured', async () => {
      shareApp('true');
      const firmware = fixture(LOG).slice();
      const line = parseBootLog(firmware).events.find(({ index }) => index === 4)!;
      const forged = new Uint8Array(
        Buffer.concat([firmware, firmware.subarray(...lineOf(firmware, line.digests))]),
      );
      const error = await refused({ firmware: forged, measured: firmware });
      expect([error.code, errorChain(error)]).toEqual([
        'key-provider-failed',
        expect.stringMatching(/does not replay to PCR 4/),
      ]);
    });

    it('refuses a machine whose firmware measured nothing that it booted', async () => {
      shareApp('true');
      // Up to the first boot application, as a host that loads the kernel by itself leaves it.
      const log = fixture(LOG);
      const application = parseBootLog(log).events.find(({ type }) => type === 0x80000003)!;
      const [start] = lineOf(log, application.digests);
      expect(errorChain(await refused({ firmware: log.subarray(0, start) }))).toContain(
        'The firmware measured no boot application',
      );
    });

    it('refuses a TPM in which somebody measured before', async () => {
      shareApp('true');
      const log = fixture(LOG).slice();
      const separator = parseBootLog(log).events.find(({ index }) => index === 6)!;
      const [start] = lineOf(log, separator.digests);
      log[start] = 14;
      expect((await refused({ firmware: log })).code).toBe('already-measured');
    });

    it('refuses a machine without a TPM, and one whose log is missing', async () => {
      shareApp('true');
      await software.stop();
      software = await startSwtpm();
      rmSync(join(root, 'log'));
      const config = (tpm?: object) => parseGuestConfig(JSON.stringify({ root, tpm }), root);
      const run = (tpm?: object) =>
        prepare({
          config: config(tpm),
          openDevice: () => Promise.resolve(new SoftwareDevice()),
          notify: () => Promise.resolve(),
          log: pino({ level: 'silent' }),
        });
      await expect(run()).rejects.toMatchObject({ code: 'key-provider-unsupported' });
      const tpm = { device: software.location, event_log: join(root, 'log') };
      await expect(run(tpm)).rejects.toMatchObject({ code: 'key-provider-failed' });
    });
  });
});

/** Start and end of the record with these digests. */
function lineOf(log: Uint8Array, digests: ReadonlyMap<string, Uint8Array>): [start: number, end: number] {
  const at = Buffer.from(log).indexOf(digests.get('sha256')!);
  const [sha256, sha384] = [32, 48];
  const sizeAt = at + sha256 + 2 + sha384;
  // Before the digest: index, type, number of digests, algorithm.
  return [at - 14, sizeAt + 4 + new DataView(log.buffer, log.byteOffset).getUint32(sizeAt, true)];
}
