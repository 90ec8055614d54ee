/** What a project on Google Cloud is refused for: each refusal is a sentence that says what to do, and nothing is half made. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type GcpLab, gcpLab, INSTANCE, leftovers } from '../harness/gcp/gcp-lab.ts';

const BOOT_IMAGE = 'dstack-cloud-0-6-0-abababab';
const BUCKET = 'test-project-dstack';

let lab: GcpLab;
beforeAll(async () => {
  lab = await gcpLab();
  lab.setConfig({ data_size: 1 });
});
afterAll(async () => {
  await lab?.cleanUp();
}, 60_000);

/** Nothing at Google, and nothing known of it here. */
beforeEach(() => {
  const { compute, storage } = lab.gcp;
  for (const all of [compute.instances, compute.disks, compute.images, storage.buckets]) all.clear();
  rmSync(join(lab.project, 'state.json'), { force: true });
  lab.gcp.forgetCalls();
});
afterEach(() => {
  expect(lab.gcp.schemaErrors).toEqual([]);
});

/** What is wrong, how it comes about, and the words that say so and what to do. */
type Case = readonly [what: string, arrange: () => unknown, words: RegExp, hint: RegExp];

describe('a deploy is refused before anything is made', { timeout: 60_000 }, () => {
  let app: string;
  beforeEach(() => {
    app = readConfig();
  });
  afterEach(() => {
    writeFileSync(join(lab.project, 'app.json'), app);
    lab.gcp.tokenRefusal = undefined;
  });

  const stranger = { labels: { 'dstack-owner': 'somebody' } };
  const cases: readonly Case[] = [
    [
      'a clock that is off',
      () => {
        lab.gcp.tokenRefusal = {
          error: 'invalid_grant',
          error_description:
            'Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.',
        };
      },
      /no usable credentials/,
      /Set the clock/,
    ],
    [
      'credentials that were taken back',
      () => {
        lab.gcp.tokenRefusal = { error: 'invalid_grant', error_description: 'Bad Request' };
      },
      /no usable credentials/,
      /gcloud auth application-default login/,
    ],
    [
      'a project of nobody',
      () => lab.setConfig({ project: 'another-project' }),
      /another-project/,
      /gcp_config\.project/,
    ],
    [
      'a zone without TDX',
      () => lab.setConfig({ zone: 'us-central1-b' }),
      /us-central1-b has no c3-standard-4/,
      /gcp_config\.zone/,
    ],
    [
      'a zone that does not exist',
      () => lab.setConfig({ zone: 'us-central1-x' }),
      /us-central1-x/,
      /Correct gcp_config\.zone/,
    ],
    [
      'a machine type without TDX',
      () => lab.setConfig({ machine_type: 'e2-standard-4' }),
      /e2-standard-4 has no TDX/,
      /machine_type/,
    ],
    [
      'an image that is not there',
      () => lab.setConfig({ boot_image: 'mine' }),
      /no image mine/i,
      /boot_image empty/,
    ],
    [
      'an image that was not made for TDX',
      () => {
        lab.gcp.compute.images.set('mine', { archive: '', body: { name: 'mine' } });
        lab.setConfig({ boot_image: 'mine' });
      },
      /mine is not TDX_CAPABLE/,
      /boot_image empty/,
    ],
    [
      'a bucket of somebody else',
      () => lab.gcp.storage.addBucket(BUCKET, 'other-project'),
      /belongs to somebody else/,
      /gcp_config\.bucket/,
    ],
    [
      'the archive for bare metal',
      () => bareMetal('dstack-0.6.0'),
      /no disk\.raw: it is the archive for bare metal/,
      /pull dstack-0\.6\.0/,
    ],
    ['a disk that boots nothing', () => noDisk('dstack-0.6.1'), /no bootable disk/, /pull|image build/],
    [
      'no image at all',
      () => lab.setConfig({}, { os_image: 'dstack-0.6.9' }),
      /has no measured hash/,
      /pull dstack-0\.6\.9/,
    ],
    ...['a.b', 'a/b', 'App', '-app', 'a'.repeat(48)].map(
      (name): Case => [
        `the name ${name}`,
        () => lab.setConfig({ instance_name: name }),
        /gcp_config\.instance_name/,
        /app\.json/,
      ],
    ),
    [
      'an instance of somebody else',
      () => setInstance(stranger),
      /another instance dstack-app/,
      /instance_name/,
    ],
    [
      'a machine that an older version left half made',
      () => setDisk({}),
      /another disk dstack-app-data/,
      /remove that disk/,
    ],
  ];
  it.each(cases)('%s', async (_what, arrange, words, hint) => {
    arrange();
    const before = leftovers(lab);
    const { code, stderr } = await lab.cli(['deploy', '--yes']);
    expect(stderr).toMatch(words);
    expect(stderr).toMatch(hint);
    expect(stderr).not.toMatch(/\bat .*\.ts:\d+/);
    expect(code).toBeGreaterThan(0);
    expect(leftovers(lab)).toEqual(before);
    expect(lab.gcp.calls.filter(({ method }) => method !== 'GET')).toEqual([]);
    expect(readdirSync(lab.project)).not.toContain('state.json');
  });

  it('no credentials, or a token that is none', async () => {
    const env = { HOME: lab.root, DSTACK_CLOUD_CONFIG: join(lab.root, 'config.json'), ...lab.gcp.env };
    for (const wrong of [
      { GOOGLE_APPLICATION_CREDENTIALS: join(lab.root, 'nowhere.json') },
      { CLOUDSDK_AUTH_ACCESS_TOKEN: 'two words' },
      { CLOUDSDK_AUTH_ACCESS_TOKEN_FILE: join(lab.root, 'nowhere') },
    ]) {
      const { code, stderr } = await lab.cli(['deploy', '--yes'], { env: { ...env, ...wrong } });
      expect([code, stderr]).toEqual([
        1,
        expect.stringMatching(/no usable credentials[\s\S]*application-default login/),
      ]);
    }
    const { stderr } = await lab.cli(['deploy', '--yes'], {
      env: { ...env, CLOUDSDK_AUTH_ACCESS_TOKEN: 'ended' },
    });
    expect(stderr).toMatch(/Log in again/);
    expect(lab.gcp.calls.filter(({ method }) => method !== 'GET')).toEqual([]);
  });
});

describe('a deploy that Google refuses on the way', { timeout: 60_000 }, () => {
  it.each([
    ['quota', /Quota 'C3_CPUS' exceeded/, /Ask for more of this quota/],
    ['a zone that is full', /does not have enough resources/, /another gcp_config\.zone/],
  ])('for %s leaves no machine, and can be repeated', async (what, words, hint) => {
    const { compute } = lab.gcp;
    if (what === 'quota') compute.quota = 2;
    else compute.exhausted.add('us-central1-a');
    const { code, stderr } = await lab.cli(['deploy']);
    compute.quota = 100;
    compute.exhausted.clear();
    expect([code, stderr]).toEqual([1, expect.stringMatching(words)]);
    expect(stderr).toMatch(hint);
    expect(leftovers(lab)).toMatchObject({
      ...{ instances: [], disks: [`${INSTANCE}-data`], images: [BOOT_IMAGE], objects: [] },
    });
    expect((await lab.must('status')).stdout).toMatch(/^Status: {7}NOT_FOUND$/m);
    if (what !== 'quota') return;
    await lab.must('deploy');
    expect(lab.state()).toMatchObject({ status: 'RUNNING' });
  });
});

it('doctor says of each thing what is wrong and what to do', async () => {
  const app = readConfig();
  lab.setConfig({ zone: 'us-central1-b' });
  setInstance({});
  lab.gcp.compute.instances.clear();
  lab.gcp.compute.quota = 2;
  lab.gcp.storage.addBucket(BUCKET, 'other-project');
  const { code, stdout } = await lab.cli(['doctor']);
  lab.gcp.compute.quota = 100;
  writeFileSync(join(lab.project, 'app.json'), app);
  expect(code).toBe(1);
  expect(stdout).toMatch(/^ok {4}project /m);
  expect(stdout).toMatch(
    /^bad {3}zone .*\n {6}Set gcp_config\.zone to one of: us-central1-a, us-central1-c$/m,
  );
  expect(stdout).toMatch(/^bad {3}quota .*0 of 2 used, 4 wanted\n {6}Ask for more/m);
  expect(stdout).toMatch(/^bad {3}bucket /m);
  lab.gcp.tokenRefusal = { error: 'invalid_grant', error_description: 'Bad Request' };
  const { stdout: without } = await lab.cli(['doctor']);
  lab.gcp.tokenRefusal = undefined;
  expect(without).toMatch(/^bad {3}credentials .*\n {6}Run gcloud auth application-default login/m);
  expect(without).toMatch(/^open {2}quota +not looked at: no access$/m);
});

function readConfig(): string {
  return readFileSync(join(lab.project, 'app.json'), 'utf8');
}

function bareMetal(name: string): void {
  const folder = join(lab.images, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'metadata.json'), '{}');
  writeFileSync(join(folder, 'auth_hash.txt'), `${'ef'.repeat(32)}\n`);
  lab.setConfig({}, { os_image: name });
}

function noDisk(name: string): void {
  bareMetal(name);
  writeFileSync(join(lab.images, name, 'disk.raw'), Buffer.alloc(4096));
}

function setInstance(body: object): void {
  lab.gcp.compute.instances.set(INSTANCE, {
    ...{ name: INSTANCE, zone: 'us-central1-a', serial: Buffer.alloc(0), serialStart: 0 },
    body: { name: INSTANCE, status: 'RUNNING', disks: [], ...body },
  });
}

function setDisk(body: object): void {
  const name = `${INSTANCE}-data`;
  lab.gcp.compute.disks.set(`us-central1-a/${name}`, { name, zone: 'us-central1-a', sizeGb: '20', ...body });
}

it('with keys in the vTPM, what would make the data unreadable is refused before the machine is touched', async () => {
  const tpm = await gcpLab({ keyProvider: 'tpm' });
  try {
    tpm.setConfig({ data_size: 1 });
    await tpm.must('deploy');
    const { compose_hash: before } = tpm.state();
    const unreadable = (why: RegExp) => ({ code: 1, stderr: expect.stringMatching(why) });
    expect(await tpm.cli(['deploy', '--delete'])).toMatchObject(
      unreadable(/unreadable: another machine has another vTPM/),
    );
    tpm.setCompose(`nginx@sha256:${'2'.repeat(64)}`);
    tpm.gcp.forgetCalls();
    expect(await tpm.cli(['deploy'])).toMatchObject(
      unreadable(/unreadable: the vTPM keeps the key[\s\S]*sealing\.md/),
    );
    const { stdout } = await tpm.must('plan');
    expect(stdout).toMatch(/^Data: unreadable unless its owner approves/m);
    expect(tpm.gcp.calls.filter(({ method }) => method !== 'GET')).toEqual([]);
    expect(tpm.state()).toMatchObject({ status: 'RUNNING', compose_hash: before });
    await tpm.must('deploy', '--force');
    expect(tpm.state()['compose_hash']).not.toBe(before);
  } finally {
    await tpm.cleanUp();
  }
}, 60_000);
