import { decodePemAll, encodePem, toHex, utf8Text } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { AttestationError } from '../errors.ts';
import { amdKdsCollateral } from './amd-kds.ts';
import type { Fetch } from './bounded-fetch.ts';

const chipId = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
const reportedTcb = Uint8Array.of(4, 1, 0, 0, 0, 0, 0x17, 0xd5);

function service(): { asked: string[]; fetch: Fetch } {
  const asked: string[] = [];
  return {
    asked,
    fetch: async (url) => {
      asked.push(url);
      if (url.endsWith('/crl')) return new Response('', { status: 404 });
      const chain =
        encodePem('CERTIFICATE', Uint8Array.of(0x30, 0)) + encodePem('CERTIFICATE', Uint8Array.of(0x30, 1));
      return new Response(url.endsWith('/cert_chain') ? chain : new Uint8Array([0x30, 2]));
    },
  };
}

describe('AMD key distribution service', () => {
  it('asks by chip and reported TCB, gives VCEK and chain, and asks once', async () => {
    const { asked, fetch } = service();
    const source = amdKdsCollateral({ baseUrl: 'https://kds.example/vcek/v1/', fetch });
    const found = await source.snp({ product: 'Milan', chipId, reportedTcb });
    expect(found.vcek).toEqual(Uint8Array.of(0x30, 2));
    expect(decodePemAll(utf8Text(found.ask), 'CERTIFICATE')).toHaveLength(2);
    expect(asked[0]).toBe(
      `https://kds.example/vcek/v1/Milan/${toHex(chipId)}?blSPL=4&teeSPL=1&snpSPL=23&ucodeSPL=213`,
    );
    await source.settled(found, true);
    const again = await source.snp({ product: 'Milan', chipId, reportedTcb });
    expect(asked.length).toBe(3);
    // What was kept is not dropped for the sake of a new part that is bad.
    await source.settled(again, true);
    const other = await source.snp({ product: 'Milan', chipId: chipId.map((byte) => byte ^ 1), reportedTcb });
    await source.settled(other, false);
    await source.snp({ product: 'Milan', chipId, reportedTcb });
    expect(asked.length).toBe(4);
  });

  it('asks again for what nobody settled to be good, and waits after what is bad or not there', async () => {
    const { asked, fetch } = service();
    let now = 1000;
    const source = amdKdsCollateral({ baseUrl: 'https://kds.example', fetch, now: () => now });
    const request = { product: 'Milan', chipId, reportedTcb } as const;
    await source.snp(request);
    const second = await source.snp(request);
    // The list is not served, which is remembered.
    expect(asked.length).toBe(5);
    await source.settled(second, false);
    await expect(source.snp(request)).rejects.toMatchObject({ code: 'collateral-invalid' });
    expect(asked.length).toBe(5);
    now += 16;
    await source.snp(request);
    expect(asked.length).toBe(8);
  });

  it('asks for a chip with a permit only, one for each chip', async () => {
    const { asked, fetch } = service();
    const source = amdKdsCollateral({ baseUrl: 'https://kds.example', fetch });
    let left = 3;
    const permit = () => {
      if (--left < 0) throw new AttestationError('collateral-unavailable', 'too many');
    };
    const chips = Array.from({ length: 20 }, (_, chip) => chipId.map((byte) => byte ^ chip));
    const outcomes = await Promise.allSettled(
      chips.map((id) => source.snp({ product: 'Milan', chipId: id, reportedTcb }, permit)),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect(asked.filter((url) => url.includes('?'))).toHaveLength(3);
  });

  it('names a Turin chip by 8 bytes, with its FMC', async () => {
    const { asked, fetch } = service();
    const source = amdKdsCollateral({ baseUrl: 'https://kds.example', fetch });
    await source.snp({ product: 'Turin', chipId, reportedTcb: Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 5) });
    expect(asked[0]).toBe(
      'https://kds.example/Turin/0102030405060708?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=5',
    );
  });

  it('says that certificates are unavailable when the service is down', async () => {
    const source = amdKdsCollateral({ fetch: () => Promise.reject(new Error('down')) });
    const request = { product: 'Milan', chipId, reportedTcb } as const;
    await expect(source.snp(request)).rejects.toBeInstanceOf(AttestationError);
    await expect(source.snp(request)).rejects.toMatchObject({ code: 'collateral-unavailable' });
  });
});
