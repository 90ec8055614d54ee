import { describe, expect, it } from 'vitest';
import { addRoot } from './roots/replace-root.ts';
import { vendorRoots } from './roots/vendor-roots.ts';
import { vendorCollateral } from './vendor-collateral.ts';
import { rootCertificate } from './x509/root-certificate.ts';

const NOW = 1_780_000_000;

/** Every address that is asked; nobody answers. */
function recorder() {
  const asked: string[] = [];
  const fetch = async (url: string): Promise<Response> => {
    asked.push(new URL(url).host);
    return new Response(null, { status: 404 });
  };
  return { asked, fetch };
}

describe('collateral of the vendors', () => {
  it('knows the service of every vendor, and by default asks the vendor itself', async () => {
    const { asked, fetch } = recorder();
    const source = vendorCollateral({ roots: vendorRoots(), fetch, now: () => NOW });
    const fmspc = '00806f050000';
    await expect(source.tdx({ tee: 'tdx', fmspc, ca: 'platform' })).rejects.toThrow('HTTP 404');
    const snp = { product: 'Genoa', chipId: new Uint8Array(64), reportedTcb: new Uint8Array(8) } as const;
    await expect(source.snp!(snp)).rejects.toThrow('HTTP 404');
    await expect(source.crl!('https://kdsintf.amd.com/vcek/v1/Milan/crl')).rejects.toThrow('HTTP 404');
    expect(new Set(asked)).toEqual(new Set(['api.trustedservices.intel.com', 'kdsintf.amd.com']));
    expect(Object.keys(source).sort()).toEqual(
      expect.arrayContaining(['atHand', 'crl', 'pckCertificate', 'snp', 'tdx', 'tpm']),
    );
  });

  it('asks the configured services instead', async () => {
    const { asked, fetch } = recorder();
    const source = vendorCollateral({
      roots: vendorRoots(),
      pccs: 'https://pccs.example/sgx/certification/v4/',
      amdKds: 'https://kds.example/vcek/v1',
      fetch,
    });
    await expect(source.tdx({ tee: 'tdx', fmspc: '00806f050000', ca: 'platform' })).rejects.toThrow();
    const snp = { product: 'Milan', chipId: new Uint8Array(64), reportedTcb: new Uint8Array(8) } as const;
    await expect(source.snp!(snp)).rejects.toThrow();
    expect(new Set(asked)).toEqual(new Set(['pccs.example', 'kds.example']));
  });
});

describe('a service for everybody', () => {
  it('asks for no PCK certificate', async () => {
    const { asked, fetch } = recorder();
    const source = vendorCollateral({ roots: vendorRoots(), fetch, isPublic: true });
    const none = new Uint8Array(16);
    const request = { qeId: none, encryptedPpid: none, cpuSvn: none, pceSvn: 1, pceId: new Uint8Array(2) };
    await expect(source.pckCertificate!(request)).rejects.toMatchObject({ code: 'unsupported' });
    expect(asked).toEqual([]);
  });
});

describe('configured roots', () => {
  it('stand beside the vendors and are called simulated, but for the vendors own', () => {
    const [intel] = vendorRoots().tdx;
    expect(addRoot(vendorRoots(), 'tdx', intel!.der).tdx).toBe(vendorRoots().tdx);
    const added = addRoot(vendorRoots(), 'sev_snp_turin', intel!.der);
    expect(added.sevSnp.turin.map(({ simulated }) => simulated)).toEqual([false, true]);
    expect(added.tdx).toBe(vendorRoots().tdx);
  });

  it.each([
    ['nothing', ''],
    ['text', 'not a certificate'],
    ['half a block', '-----BEGIN CERTIFICATE-----\nMIIB'],
    ['an empty block', '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n'],
    ['DER of something else', '0\u0003\u0002\u0001\u0001'],
  ])('are refused when the file holds %s', (_name, text) => {
    expect(() => rootCertificate(new TextEncoder().encode(text))).toThrow(
      expect.objectContaining({ code: 'malformed' }),
    );
  });
});
