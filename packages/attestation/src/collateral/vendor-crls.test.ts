import { describeWithFixtures, fixture } from '@dstack-cloud/test/fixtures';
import { expect, it } from 'vitest';
import { vendorCrls } from './vendor-crls.ts';

const URL_AMD = 'https://kdsintf.amd.com/vcek/v1/Milan/crl';

describeWithFixtures('optional revocation lists', 'attestation/pcs/gotdx-rootcrl.der', () => {
  const list = fixture('attestation/pcs/gotdx-rootcrl.der');

  it('asks the hosts of AWS and AMD alone, once', async () => {
    const asked: string[] = [];
    const source = vendorCrls({
      now: () => 1,
      fetch: async (url) => {
        asked.push(url);
        return new Response(new Uint8Array(list));
      },
    });
    expect(await Promise.all([source.crl(URL_AMD), source.crl(URL_AMD)])).toEqual([list, list]);
    const last = await source.crl(URL_AMD);
    await source.settled(last, true);
    await source.crl(URL_AMD);
    for (const url of [
      'http://169.254.169.254/crl',
      'https://kdsintf.amd.com.evil.example/crl',
      'https://kdsintf.amd.com:444/crl',
      'https://user@kdsintf.amd.com/crl',
      'file:///etc/passwd',
    ]) {
      await expect(source.crl(url)).rejects.toMatchObject({ code: 'collateral-unavailable' });
    }
    // Once for two at once, once more as nobody had settled that answer yet.
    expect(asked).toEqual([URL_AMD, URL_AMD]);
  });

  it('does not ask again at once for what is not served', async () => {
    let asked = 0;
    let now = 1000;
    const source = vendorCrls({
      now: () => now,
      fetch: async () => {
        asked++;
        return new Response('', { status: 403 });
      },
    });
    const url = 'http://aws-nitro-enclaves-crl.s3.amazonaws.com/crl/1.crl';
    for (let i = 0; i < 3; i++) {
      await expect(source.crl(url)).rejects.toMatchObject({ code: 'collateral-unavailable' });
    }
    expect(asked).toBe(1);
    now += 601;
    await expect(source.crl(url)).rejects.toThrow();
    expect(asked).toBe(2);
  });
});
