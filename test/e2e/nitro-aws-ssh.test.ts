/** Platform nitro against moto's AWS, with commands by SSH to a real sshd that leads into an emulated instance. */
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as ec2 from '@aws-sdk/client-ec2';
import { build } from '@dstack-cloud/scripts/build';
import { findProgram } from '@dstack-cloud/test/requires';
import { type Sshd, startSshd } from '@dstack-cloud/test/sshd';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AwsLab, awsLab, INSTANCE, leftovers } from '../harness/aws/aws-lab.ts';
import { loginProgram } from '../harness/aws/emulated-host.ts';
import { motoMissing } from '../harness/aws/moto.ts';

const missing = motoMissing() ?? (findProgram('sshd') === undefined ? 'sshd' : undefined);
const NONE = { instances: [], groups: [], volumes: [], roles: [], profiles: [], buckets: [], objects: [] };

describe.skipIf(missing !== undefined)(
  `a project on AWS, by SSH (needs Python and sshd: ${missing ?? 'here'})`,
  { timeout: 180_000 },
  () => {
    let lab: AwsLab;
    let host: Sshd;
    let impostor: Sshd;
    beforeAll(async () => {
      await build();
      lab = await awsLab();
      const enter = loginProgram(lab.aws.folder, join(lab.root, 'enter'));
      host = await startSshd({ hostKeys: ['ed25519', 'rsa-2048'], forceCommand: enter });
      impostor = await startSshd({ hostKeys: ['ed25519', 'rsa-2048'], forceCommand: enter });
      mkdirSync(join(lab.root, '.ssh'), { mode: 0o700 });
      copyFileSync(host.loginKey, join(lab.root, '.ssh/pair.pem'));
      const config = { endpoint: lab.aws.moto.origin, region: 'us-east-1' };
      const client = new ec2.EC2Client({
        ...config,
        credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
      });
      await client.send(new ec2.CreateKeyPairCommand({ KeyName: 'pair' }));
      client.destroy();
      lab.setConfig({
        ...{ access: 'ssh', ssh_host: '127.0.0.1', ssh_port: host.port, ssh_user: host.user },
        ...{ key_name: 'pair', key_path: '~/.ssh/pair.pem', ssh_sources: ['203.0.113.7'] },
      });
    }, 600_000);
    afterAll(async () => {
      await host?.close();
      await impostor?.close();
      await lab?.cleanUp();
    }, 60_000);

    it.each<[string, object, string]>([
      ['no key', { key_path: '' }, 'there is no key to log in with'],
      ['a key that is not there', { key_path: '~/.ssh/other.pem' }, 'does not exist'],
      ['a file that is no key', { key_path: 'app.json' }, 'app.json'],
      ['no key pair', { key_name: '' }, 'key_name is empty'],
      ['no way in', { ssh_sources: [] }, 'ssh_sources is empty'],
      ['a source that is none', { ssh_sources: ['me'] }, 'is no network'],
      ['a host key that is none', { ssh_host_key: 'SHA256:abc' }, 'is no public key of a host'],
    ])('nitro-aws-ssh: %s is refused before anything is made', async (_, wrong, sentence) => {
      const right = { key_path: '~/.ssh/pair.pem', key_name: 'pair', ssh_sources: ['203.0.113.7'] };
      lab.setConfig(wrong as Record<string, unknown>);
      const { code, stderr } = await lab.cli(['deploy']);
      lab.setConfig({ ...right, ssh_host_key: '' });
      expect([code !== 0, stderr]).toEqual([true, expect.stringContaining(sentence)]);
      expect(await leftovers(lab)).toEqual(NONE);
    });

    it('nitro-aws-ssh: deploys without Systems Manager and without a role, once AWS says which host key is right', async () => {
      expect(await lab.must('plan')).toContain(`lets 203.0.113.7 in to port ${host.port}`);
      // An instance prints its keys some time after it runs.
      setTimeout(() => {
        lab.aws.console = `boot\r\n-----BEGIN SSH HOST KEY KEYS-----\r\n${host.hostKeys.join(' root@ip\r\n')}\r\n-----END SSH HOST KEY KEYS-----\r\n`;
      }, 3_000);
      expect(await lab.must('deploy')).toContain(`Deployed ${INSTANCE}`);
      const measured = JSON.parse(await lab.must('measure', '--json'));
      expect(lab.host().enclaves()).toMatchObject([
        { State: 'RUNNING', Measurements: { PCR0: measured.Measurements.PCR0 } },
      ]);
      expect(JSON.parse(await lab.must('fw', 'list', '--json'))).toMatchObject([
        { ports: [`tcp/${host.port}`], sources: ['203.0.113.7/32'] },
      ]);
      const names = lab.aws.calls.map(({ name }) => name);
      expect(names.filter((name) => /Command|Role|Profile/.test(name))).toEqual([]);
      expect(await leftovers(lab)).toMatchObject({ instances: ['running'], roles: [], profiles: [] });
    });

    it('nitro-aws-ssh: shows state and log, replaces, stops and starts', async () => {
      expect(await lab.must('status')).toMatch(/^Status: {7}RUNNING$/m);
      expect(await lab.must('logs')).toContain('/etc/dstack/vsock-proxy.json can be used');
      const before = lab.host().enclaves()[0]?.['Measurements'];
      await lab.setApp('two');
      // The console of an instance is forgotten; what was pinned is not.
      lab.aws.console = '';
      rmSync(join(lab.project, 'state.json'));
      await lab.must('deploy');
      expect(lab.host().enclaves()[0]?.['Measurements']).not.toEqual(before);
      expect(await lab.must('stop')).toContain(`Stopped ${INSTANCE}`);
      expect(lab.host().enclaves()).toEqual([]);
      expect(await lab.must('start')).toMatch(/^Status: {7}RUNNING$/m);
    });

    it('nitro-aws-ssh: another host at the same address gets no script and no login', async () => {
      lab.setConfig({ ssh_port: impostor.port });
      copyFileSync(impostor.loginKey, join(lab.root, '.ssh/pair.pem'));
      const { code, stderr } = await lab.cli(['stop']);
      expect([code, stderr]).toEqual([1, expect.stringContaining('is not the host that is meant')]);
      expect(await lab.must('status')).toContain('is not the host that is meant');
      expect(impostor.log()).not.toMatch(/Accepted|publickey/);
      copyFileSync(host.loginKey, join(lab.root, '.ssh/pair.pem'));
      lab.setConfig({ ssh_port: host.port });
      expect(lab.host().enclaves()).toHaveLength(1);
    });

    it('nitro-aws-ssh: a host whose keys nothing tells is never asked', async () => {
      const [id = ''] = [...lab.aws.hosts.keys()];
      const config = { endpoint: lab.aws.moto.origin, region: 'us-east-1' };
      const client = new ec2.EC2Client({
        ...config,
        credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
      });
      const Tags = [{ Key: 'dstack:ssh-host-keys' }];
      await client.send(new ec2.DeleteTagsCommand({ Resources: [id], Tags }));
      client.destroy();
      const logged = host.log().length;
      expect(await lab.must('status')).toContain('Nothing says which key the SSH server');
      expect(host.log().length).toBe(logged);
      lab.setConfig({ ssh_host_key: host.hostKeys[0] });
      expect(await lab.must('status')).toMatch(/^Status: {7}RUNNING$/m);
    });

    it('nitro-aws-ssh: removes all that it made', async () => {
      await lab.must('remove', '--all', '--yes');
      expect(await leftovers(lab)).toEqual(NONE);
      expect(lab.aws.schemaErrors).toEqual([]);
    });
  },
);
