/** Platform nitro against moto's AWS, with parent instances whose scripts really run. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from '@dstack-cloud/scripts/build';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type AwsLab, awsLab, INSTANCE, leftovers } from '../harness/aws/aws-lab.ts';
import { motoMissing } from '../harness/aws/moto.ts';
import { codeBlocks } from '../harness/shell-blocks.ts';

const missing = motoMissing();
const NONE = { instances: [], groups: [], volumes: [], roles: [], profiles: [], buckets: [], objects: [] };

describe.skipIf(missing !== undefined)(
  `a project on AWS (needs Python: ${missing ?? 'here'})`,
  { timeout: 180_000 },
  () => {
    let lab: AwsLab;
    beforeAll(async () => {
      await build();
      lab = await awsLab();
    }, 600_000);
    afterAll(() => lab?.cleanUp(), 60_000);
    afterEach(() => expect(lab.aws.schemaErrors).toEqual([]));

    it('nitro-aws: says what it would make, and makes nothing', async () => {
      const stdout = await lab.must('deploy', '--dry-run');
      expect(stdout).toContain(`make    instance ${INSTANCE} (c5.xlarge in us-east-1)`);
      expect(await lab.must('plan')).toContain('make    bucket s3://dstack-');
      expect(await leftovers(lab)).toEqual(NONE);
      expect(await lab.must('status')).toContain("No deployment found. Run 'dstack-cloud deploy' first.");
    });

    it('nitro-aws: deploys one instance that runs the measured image, behind a closed door', async () => {
      expect(await lab.must('deploy')).toContain(`Deployed ${INSTANCE}`);
      const measured = JSON.parse(await lab.must('measure', '--json'));
      expect(lab.host().enclaves()).toMatchObject([
        {
          EnclaveName: 'dstack',
          State: 'RUNNING',
          MemoryMiB: 2048,
          NumberOfCPUs: 2,
          Measurements: { PCR0: measured.Measurements.PCR0 },
        },
      ]);
      expect(JSON.parse(lab.host().read('etc/dstack/vsock-proxy.json') ?? '')).toMatchObject({
        vsock: 'kernel',
        connect: { allow: ['kms.example:12001'] },
      });
      const left = await leftovers(lab);
      expect(left).toMatchObject({ instances: ['running'], objects: ['enclave.eif', 'programs.tar.gz'] });
      for (const name of ['groups', 'volumes', 'roles', 'profiles', 'buckets'])
        expect(left[name], name).toHaveLength(1);
      const launch = lab.aws.calls.find(({ name }) => name === 'RunInstances')?.parameters;
      expect(Object.fromEntries(launch ?? [])).toMatchObject({
        'MetadataOptions.HttpTokens': 'required',
        'MetadataOptions.HttpPutResponseHopLimit': '1',
        'BlockDeviceMapping.1.Ebs.Encrypted': 'true',
      });
      expect(await lab.must('fw', 'list', '--json')).toBe('[]\n');
      expect(lab.state()).toMatchObject({ status: 'RUNNING', platform: 'nitro', machine_dir: '' });
    });

    it('nitro-aws: shows registers, hash, log, and what runs instead', async () => {
      const status = await lab.must('status');
      expect(status).toMatch(/^Status: {7}RUNNING$/m);
      expect(status).toMatch(/PCR0: +[0-9a-f]{96}/);
      expect(status).toMatch(/OS_IMAGE_HASH: +0x[0-9a-f]{64}/);
      expect(status).not.toMatch(/^ {2}!/m);
      expect(await lab.must('logs')).toContain('/etc/dstack/vsock-proxy.json can be used');
      expect(JSON.parse(await lab.must('list', '--json'))).toMatchObject([
        { name: INSTANCE, status: 'RUNNING' },
      ]);
      const enclaves = lab.host().enclaves();
      writeFileSync(
        join(lab.host().root, 'run/enclaves.json'),
        JSON.stringify([{ ...enclaves[0], Flags: 'DEBUG_MODE', Measurements: { PCR0: '00'.repeat(48) } }]),
      );
      const drifted = await lab.must('status');
      expect(drifted).toContain('! The enclave runs in debug mode');
      expect(drifted).toContain(`! The enclave that runs has PCR0 ${'00'.repeat(48)}`);
      writeFileSync(join(lab.host().root, 'run/enclaves.json'), JSON.stringify(enclaves));
    });

    it('nitro-aws: opens and closes ports', async () => {
      expect(await lab.must('fw', 'allow', '443')).toContain('Made allow tcp/443');
      expect(await lab.must('fw', 'allow', '443')).toContain('Already there');
      await lab.must('fw', 'allow', '443', '-s', '203.0.113.7', '-s', '2001:db8::/32');
      expect(JSON.parse(await lab.must('fw', 'list', '--json'))).toMatchObject([
        { action: 'allow', ports: ['tcp/443'], sources: ['2001:db8::/32', '203.0.113.7/32'] },
      ]);
      expect((await lab.cli(['fw', 'deny', '443', '-s', '203.0.113.7'])).stderr).toContain(
        'denies nobody in particular',
      );
      await lab.must('fw', 'deny', '443');
      expect(await lab.must('fw', 'list', '--json')).toBe('[]\n');
    });

    it('nitro-aws: an update replaces the enclave, and one that does not start leaves the one of before', async () => {
      const before = lab.host().enclaves()[0]?.['Measurements'];
      await lab.setApp('two');
      await lab.must('deploy');
      expect(lab.aws.calls.filter(({ name }) => name === 'RunInstances')).toHaveLength(1);
      const updated = lab.host().enclaves()[0]?.['Measurements'];
      expect(updated).not.toEqual(before);
      await lab.setApp('three');
      lab.setConfig({ cpu_count: 2, memory_mib: 4096 });
      writeFileSync(join(lab.host().root, 'run/cpus'), '1');
      const { code, stderr } = await lab.cli(['deploy']);
      expect([code, stderr]).toEqual([1, expect.stringContaining('has not enough CPUs for the enclave')]);
      rmSync(join(lab.host().root, 'run/cpus'));
      writeFileSync(join(lab.host().root, 'run/memory'), '2048');
      expect((await lab.cli(['deploy'])).stderr).toContain('has not enough memory for the enclave');
      rmSync(join(lab.host().root, 'run/memory'));
      await lab.setApp('two');
      lab.setConfig({ memory_mib: 2048 });
      await lab.must('deploy');
      expect(lab.host().enclaves()[0]?.['Measurements']).toEqual(updated);
    });

    it('nitro-aws: stops and starts the enclave, and with its host', async () => {
      expect(await lab.must('stop')).toContain(`Stopped ${INSTANCE}`);
      expect(lab.host().enclaves()).toEqual([]);
      expect(await lab.must('status')).toMatch(/^Status: {7}STOPPED$/m);
      expect(await lab.must('start')).toMatch(/^Status: {7}RUNNING$/m);
      await lab.must('stop', '--host');
      expect(await leftovers(lab)).toMatchObject({ instances: ['stopped'] });
      expect(await lab.must('start')).toMatch(/^Status: {7}RUNNING$/m);
      expect(lab.host().enclaves()).toHaveLength(1);
    });

    it('nitro-aws: finds its instance by its tags', async () => {
      rmSync(join(lab.project, 'state.json'));
      expect(await lab.must('status')).toContain(lab.aws.hosts.keys().next().value);
      await lab.must('deploy');
      expect(await leftovers(lab)).toMatchObject({ instances: ['running'] });
    });

    it('nitro-aws: removes all that it made', async () => {
      await lab.must('remove', '--yes');
      expect(await leftovers(lab)).toMatchObject({ ...NONE, buckets: [expect.stringMatching(/^dstack-/)] });
      await lab.must('remove', '--all', '--yes');
      expect(await leftovers(lab)).toEqual(NONE);
      expect(lab.state()).toMatchObject({ status: 'REMOVED' });
    });

    it('documented-nitro-aws: the commands of docs/nitro.md', async () => {
      const [text = ''] = codeBlocks('docs/nitro.md', 'text').filter((one) => one.includes('fw allow'));
      const commands = text.trim().split('\n');
      expect(commands.length).toBeGreaterThan(4);
      for (const line of commands) {
        const [program, ...words] = line.split(' ');
        expect(program).toBe('dstack-cloud');
        // It would never end.
        await lab.must(...words.filter((word) => word !== '--follow'));
      }
      expect(await leftovers(lab)).toEqual(NONE);
    });

    it.each<[string, object, string]>([
      ['a type without enclaves', { instance_type: 't3.large' }, 'run no enclaves'],
      ['half a core', { cpu_count: 1 }, 'An enclave has whole cores'],
      ['all CPUs', { cpu_count: 4 }, 'its first core stays with the parent'],
      ['all memory', { memory_mib: 8192 }, 'the parent needs some of it'],
      ['a type that does not exist', { instance_type: 'c5.tiny' }, 'has no instance type c5.tiny'],
      ['a bucket that is not there', { bucket: 'no-such-bucket' }, 'There is no bucket no-such-bucket'],
      ['a region that is none', { region: 'mars' }, 'nitro_config.region cannot be used'],
    ])('nitro-aws: %s is refused before anything is made', async (_, wrong, sentence) => {
      const right = { instance_type: 'c5.xlarge', cpu_count: 2, memory_mib: 2048, bucket: '', region: '' };
      lab.setConfig(wrong as Record<string, unknown>);
      const { code, stderr } = await lab.cli(['deploy']);
      lab.setConfig(right);
      expect([code, stderr]).toEqual([1, expect.stringContaining(sentence)]);
      expect(await leftovers(lab)).toEqual(NONE);
    });

    it('nitro-aws: a host without support for enclaves is named as that', async () => {
      lab.aws.hasEnclaves = false;
      const { code, stderr } = await lab.cli(['deploy']);
      lab.aws.hasEnclaves = true;
      expect([code, stderr]).toEqual([
        1,
        expect.stringContaining('The parent instance has no support for enclaves'),
      ]);
      await lab.must('remove', '--all', '--yes');
      expect(await leftovers(lab)).toEqual(NONE);
    });
  },
);
