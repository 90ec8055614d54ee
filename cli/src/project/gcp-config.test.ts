import { describe, expect, it } from 'vitest';
import { parseAppConfig } from './app-schema.ts';

const parse = (gcp_config: object) => parseAppConfig({ name: 'x', gcp_config }, 'app.json');

describe('gcp_config', () => {
  it('has the names of the original and of its newer releases', () => {
    const config = {
      ...{ project: 'p', zone: 'us-central1-a', instance_name: 'dstack-vm', machine_type: 'c3-standard-4' },
      ...{ boot_image: '', boot_image_tar: './disk.tar.gz', data_image: 'dstack-data-disk', data_size: 20 },
      ...{ bucket: '', network: 'default', subnet: 'inner', service_account: 'a@p.iam', scopes: ['b'] },
      ...{ tags: ['web'], labels: { team: 'a' }, private_ip: '10.0.0.7', no_public_ip: true },
      ...{ provisioning_model: 'SPOT', _comment_zone: 'where' },
    };
    expect(parse(config).config.gcp_config).toEqual(config);
  });

  it.each([
    [{ sub_net: 'x' }, /unknown key sub_net; did you mean subnet\?/],
    [{ services_account: 'x' }, /did you mean service_account/],
    [{ xyz: 1 }, /unknown key xyz$/],
    [{ tags: 'web' }, /gcp_config\.tags/],
    [{ labels: { a: 1 } }, /gcp_config\.labels\.a/],
    [{ data_size: '20' }, /gcp_config\.data_size/],
    [{ provisioning_model: 'spot' }, /gcp_config\.provisioning_model/],
  ])('%j is refused', (config, message) => {
    expect(() => parse(config)).toThrow(expect.objectContaining({ code: 'bad_app_json' }));
    expect(() => parse(config)).toThrow(message);
  });

  it('of another platform is left alone', () => {
    const other = { platform: 'local', name: 'x', gcp_config: { anything: 1 } };
    expect(() => parseAppConfig(other, 'app.json')).not.toThrow();
  });
});
