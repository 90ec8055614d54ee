import { decodePem, der } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixtureText } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { type Certificate, parseCertificate } from '../x509/certificate.ts';
import { GCE_INSTANCE, gceInstance } from './gce-instance.ts';

describeWithFixtures('GCE instance information', 'attestation/expected.json', () => {
  const read = (name: string): Certificate =>
    parseCertificate(decodePem(fixtureText(`attestation/tpm/${name}.pem`), 'CERTIFICATE'));
  const written = (...fields: Uint8Array[]) => {
    const certificate = read('gcp-akcert');
    const value = der.sequence(...fields);
    return gceInstance({ ...certificate, extensions: [{ oid: GCE_INSTANCE, critical: false, value }] });
  };

  it.each([
    ['gce-uca_tpm_rsa_sign_cert', 'google.com:wuale-gcp-testing', 5780156274199835632n],
    ['gce-uca_tpm_ecc_sign_cert', 'google.com:wuale-gcp-testing', 5780156274199835632n],
    ['gce-pca_tpm_ecc_sign_cert', 'google.com:wuale-gcp-testing', 218557372616137117n],
    ['gcp-akcert', 'core-eso', 6524697943022743941n],
  ])('is in %s, of a machine in production', (name, projectId, instanceId) => {
    expect(gceInstance(read(name))).toEqual({
      zone: 'us-central1-a',
      projectId,
      instanceId,
      isProduction: true,
    });
  });

  it('is in no CA', () => {
    expect(gceInstance(read('gcp-ak_intermediate'))).toBeUndefined();
  });

  const text = der.utf8String('name');
  const machine = [text, der.integer(1), text, der.integer(2), text];
  it.each([
    ['without properties', []],
    ['of no statement', [der.explicit(0, der.sequence())]],
    ['of a version alone', [der.explicit(0, der.sequence(der.explicit(0, der.integer(3))))]],
    ['that denies it', [der.explicit(0, der.sequence(der.explicit(1, der.boolean(false))))]],
  ])('%s is not of production', (_name, properties) => {
    expect(written(...machine, ...properties)?.isProduction).toBe(false);
  });

  it.each([
    ['nothing', []],
    ['a name missing', machine.slice(0, 4)],
    ['a number that is text', [text, text, text, der.integer(2), text]],
    [
      'properties that are a number',
      [...machine, der.explicit(0, der.sequence(der.explicit(1, der.integer(1))))],
    ],
  ])('refuses %s', (_name, fields) => {
    expect(() => written(...fields)).toThrow(/instance information/);
  });
});
