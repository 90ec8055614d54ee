import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createGcp, createPlatform } from '@dstack-cloud/tee-simulator';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkComposeFile } from '../project/compose-lint.ts';
import { Sandbox } from '../testing.ts';

const IMAGE = `registry.example/dstack-kms@sha256:${'ab'.repeat(32)}`;
const SEED = new Uint8Array(32).fill(8);
const chain = { rpc_url: 'https://rpc.example', kms_contract: `0x${'11'.repeat(20)}`, chain_id: 8453 };
let box: Sandbox;
beforeEach(() => {
  box = new Sandbox();
  box.env = { DSTACK_CLOUD_CONFIG: box.path('config.json') };
  configure({ chain });
});
afterEach(() => box.remove());

const configure = (config: object): void => writeFileSync(box.path('config.json'), JSON.stringify(config));
const make = (...more: string[]) => box.run('new', 'kms', '--template', 'kms', '--platform', 'gcp', ...more);
const compose = (): string => readFileSync(box.path('kms', 'docker-compose.yaml'), 'utf8');

describe('new --template kms', () => {
  it('makes a project that deploys as it is, with the policy of the configured chain', async () => {
    expect(await make('--image', IMAGE)).toMatchObject({ code: 0 });
    const app = JSON.parse(readFileSync(box.path('kms', 'app.json'), 'utf8'));
    expect(app).toMatchObject({ key_provider: 'tpm', no_instance_id: true, gateway_enabled: false });
    const text = compose();
    const lint = { directory: join(box.directory, 'kms'), hasSealedEnv: false, scripts: [] };
    expect(checkComposeFile(text, 'docker-compose.yaml', lint)).toEqual({ warnings: [], blockers: [] });
    expect(text).toContain(`image: ${IMAGE}`);
    expect(text).toContain('rpc_urls = ["https://rpc.example"]');
    expect(text).toContain(`kms_contract = "${chain.kms_contract}"`);
    expect(text).not.toContain('insecure');
  });

  it('believes simulated hardware where the configuration does, and says so', async () => {
    writeFileSync(box.path('tdx.pem'), createPlatform(SEED).rootPem);
    writeFileSync(box.path('tpm.pem'), createGcp(SEED).rootPem);
    const root_ca = { tdx: box.path('tdx.pem'), gcp_tpm: box.path('tpm.pem') };
    configure({ chain, attestation: { root_ca }, services: { pccs_url: 'http://127.0.0.1:4' } });
    await make('--image', `sha256:${'ab'.repeat(32)}`);
    const text = compose();
    expect(text).toMatch(/SIMULATED/);
    expect(text.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect(text).toContain('insecure_skip_gcp_firmware_endorsement = true');
    expect(text).toContain('pccs = "http://127.0.0.1:4"');
  });

  it.each([
    ['an image by tag', ['--image', 'dstack-kms:0.1.0'], /named by its digest/],
    ['no image', [], /named by its digest/],
    [
      'a key service as its key provider',
      ['--image', IMAGE, '--key-provider', 'kms'],
      /without a key service/,
    ],
    [
      'keys that every boot makes new',
      ['--image', IMAGE, '--key-provider', 'none'],
      /find its root keys again/,
    ],
    ['another platform', ['--image', IMAGE, '--platform', 'local'], /for Google Cloud/],
  ])('refuses %s', async (_name, more, message) => {
    const { code, stderr } = await make(...more);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it('refuses a configuration without a chain, and --image of another project', async () => {
    configure({});
    expect(await make('--image', IMAGE)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('config-edit'),
    });
    expect(await box.run('new', 'app', '--image', IMAGE)).toMatchObject({ code: 2 });
  });
});
