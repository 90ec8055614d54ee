import { decodeAttestation } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { expect, test } from 'vitest';
import { localFacts } from './local-evidence.ts';

describeWithFixtures('facts of a machine about itself', 'attestation', () => {
  // A verifier derives the same values from the same evidence.
  test.each([
    [
      'gcp-tdx-attestation-v0.bin',
      'c4f9c600e84a4b5ba1728acb2e98afc3564780a8bc0e362ea6882cb53410811b',
      'a610a51f77eed6485c36b84eb02745151b130e9aed91ddae6d1e0d028107c538',
    ],
  ])('on Google Cloud come from the vTPM: %s', (file, mrSystem, mrAggregated) => {
    const { appInfo, tcbInfo } = localFacts(
      decodeAttestation(fixture(`attestation/synthetic/${file}`)),
      '{}',
    );
    expect([toHex(appInfo.mrSystem), toHex(appInfo.mrAggregated)]).toEqual([mrSystem, mrAggregated]);
    expect(JSON.parse(tcbInfo)).toMatchObject({
      ...{ pcr0: '0cca9ec161b09288802e5a112255d21340ed5b797f5fe29cecccfd8f67b9f802' },
      mr_aggregated: mrAggregated,
    });
  });

  test('on bare TDX come from its registers', () => {
    const { appInfo } = localFacts(
      decodeAttestation(fixture('attestation/dstack/attestation-v0-dstack-tdx.bin')),
      '{}',
    );
    expect([toHex(appInfo.mrSystem), toHex(appInfo.mrAggregated)]).toEqual([
      '51ea38f8eee6dc72dbae9b74531ae6d6204295d265dabb4e6c34621a2a1a1197',
      '85334a62c97d0f8bf82d0245d31b539d17a2d7c258e2a13efc928aaea0e107cb',
    ]);
  });
});
