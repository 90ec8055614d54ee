/** The provider for AWS Route 53, with Amazon's client, against moto's Route 53. */
import {
  CreateHostedZoneCommand,
  ListResourceRecordSetsCommand,
  Route53Client,
} from '@aws-sdk/client-route-53';
import { type DnsProvider, route53, setCaa } from '@dstack-cloud/certbot';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Moto, motoMissing, startMoto } from '../harness/aws/moto.ts';

const NAME = '_acme-challenge.apps.example.test';
const missing = motoMissing();

describe.skipIf(missing !== undefined)(
  `Route 53${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    let moto: Moto;
    let client: Route53Client;
    let zone: string;
    let dns: DnsProvider;

    beforeAll(async () => {
      moto = await startMoto();
      const credentials = { accessKeyId: 'AKIAAAAAAAAAAAAAAAAA', secretAccessKey: 'secret' };
      client = new Route53Client({ region: 'us-east-1', endpoint: moto.origin, credentials });
      for (const [n, name] of ['test', 'example.test'].entries()) {
        const made = await client.send(
          new CreateHostedZoneCommand({ Name: `${name}.`, CallerReference: `${n}` }),
        );
        zone = made.HostedZone!.Id!;
      }
      dns = await route53({ ...credentials, endpoint: moto.origin });
    }, 360_000);
    afterAll(async () => {
      client?.destroy();
      await moto?.close();
    });

    async function texts(name: string, type: string): Promise<string[]> {
      const { ResourceRecordSets: sets = [] } = await client.send(
        new ListResourceRecordSetsCommand({ HostedZoneId: zone }),
      );
      const found = sets.find((set) => set.Name === `${name}.` && set.Type === type);
      return (found?.ResourceRecords ?? []).map(({ Value }) => Value ?? '').sort();
    }

    it('gateway-route53: challenges stand beside each other in the longest zone, and CAA records are pinned', async () => {
      const removeOne = await dns.addTxt(NAME, 'one', 60);
      const removeTwo = await dns.addTxt(NAME, 'two', 60);
      expect(await texts(NAME, 'TXT')).toEqual(['"one"', '"two"']);
      await removeOne();
      expect(await texts(NAME, 'TXT')).toEqual(['"two"']);
      await removeTwo();
      expect(await texts(NAME, 'TXT')).toEqual([]);
      await dns.changeCaa('apps.example.test', [{ tag: 'iodef', value: 'mailto:me@example.test' }], []);
      expect(await setCaa(dns, 'apps.example.test', 'ca.test', 'https://ca.test/acct/1')).toBe(true);
      expect(await setCaa(dns, 'apps.example.test', 'ca.test', 'https://ca.test/acct/1')).toBe(false);
      const value = 'ca.test;validationmethods=dns-01;accounturi=https://ca.test/acct/1';
      expect(await texts('apps.example.test', 'CAA')).toEqual([
        '0 iodef "mailto:me@example.test"',
        `0 issue "${value}"`,
        `0 issuewild "${value}"`,
      ]);
      await expect(dns.addTxt('x.other.invalid', 'v', 60)).rejects.toMatchObject({ code: 'dns-failed' });
    }, 60_000);
  },
);
