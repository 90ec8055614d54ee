import { describe, expect, it } from 'vitest';
import { VerifierError } from '../errors.ts';
import { loadConfig } from './load-config.ts';

const message = (toml: string, environment: Record<string, string> = {}): string => {
  try {
    loadConfig(toml, environment);
  } catch (error) {
    expect(error).toBeInstanceOf(VerifierError);
    return (error as Error).message;
  }
  return '';
};

describe('configuration of the service', () => {
  it('has the defaults of the original', () => {
    expect(loadConfig(undefined, {})).toMatchObject({
      address: '0.0.0.0',
      port: 8080,
      image_cache_dir: '/tmp/dstack-verifier/cache',
      image_download_timeout_secs: 300,
      attestation: { insecure_allow_external_trust_anchors: false, root_ca: {}, urls: { tpm_hosts: [] } },
    });
  });

  it('takes TOML over defaults, and the environment over both', () => {
    const toml = 'port = 9000\n[attestation.urls]\npccs = "https://a.example"\n';
    const config = loadConfig(toml, {
      DSTACK_VERIFIER_PORT: '9001',
      DSTACK_VERIFIER_ATTESTATION__URLS__PCCS: 'https://b.example',
      DSTACK_VERIFIER_ATTESTATION__GCP_PCR0: '["00"]',
      PORT: '1',
    });
    expect([config.port, config.attestation.urls.pccs, config.attestation.gcp_pcr0]).toEqual([
      9001,
      'https://b.example',
      ['00'],
    ]);
  });

  it('reads the key of the older line', () => {
    expect(loadConfig('pccs_url = "https://pccs.example"', {}).pccs_url).toBe('https://pccs.example');
  });

  it.each([
    ['foo = 1', /unknown key foo/],
    ['adress = "::"', /unknown key adress; did you mean address\?/],
    ['[attestation]\nfoo = 1', /unknown key attestation.foo/],
    ['[attestation.urls]\npcs = "https://a"', /attestation.urls.pcs; did you mean pccs\?/],
    ['port = 0', /^port: /],
    ['port = "80"', /^port: /],
    ['image_download_url = "https://a/b.tar.gz"', /image_download_url/],
    ['[attestation.urls]\npccs = "file:///etc"', /attestation.urls.pccs/],
    ['port = [', /not TOML/],
  ])('refuses %s', (toml, expected) => {
    expect(message(toml)).toMatch(expected);
  });

  it('refuses other trust anchors without their switch', () => {
    const anchors = '[attestation.root_ca]\ntdx = "root.pem"';
    expect(message(anchors)).toMatch(/insecure_allow_external_trust_anchors is false/);
    expect(message('[attestation.urls]\ntpm_hosts = ["127.0.0.1:1"]')).toMatch(/insecure_allow/);
    expect(message('', { DSTACK_VERIFIER_ATTESTATION__ROOT_CA__TDX: 'x' })).toMatch(/insecure_allow/);
    expect(
      message(anchors, { DSTACK_VERIFIER_ATTESTATION__INSECURE_ALLOW_EXTERNAL_TRUST_ANCHORS: 'true' }),
    ).toBe('');
  });

  it('is not fooled by names of the language', () => {
    expect(message('', { DSTACK_VERIFIER___PROTO____X: '1' })).not.toBe('');
    expect(({} as Record<string, unknown>)['x']).toBeUndefined();
  });
});
