import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { detectPlatform, PLATFORM_PATHS, type PlatformPaths } from './detect-platform.ts';
import { quoteServicePort, tdxLocations } from './tdx-locations.ts';

let root: string;
let paths: PlatformPaths;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'platform-'));
  const below = (path: string) => join(root, path);
  paths = {
    ...(Object.fromEntries(
      Object.entries(PLATFORM_PATHS)
        .filter(([name]) => name !== 'tpm')
        .map(([name, path]) => [name, below(path as string)]),
    ) as Omit<PlatformPaths, 'tpm'>),
    tpm: PLATFORM_PATHS.tpm.map(below),
  };
});
afterEach(() => rmSync(root, { recursive: true }));

function have(path: string, text = ''): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

describe('detectPlatform', () => {
  test.each<[string, (p: PlatformPaths) => void, string]>([
    ['NSM before all', (p) => [have(p.nsm), have(p.tdxGuest)], 'dstack-nitro-enclave'],
    ['dstack', (p) => [have(p.productName, 'dstack\n'), have(p.tdxGuest)], 'dstack-tdx'],
    ['qemu', (p) => [have(p.productName, 'qemu'), have(p.tdxGuest)], 'dstack-tdx'],
    ['any other name', (p) => [have(p.productName, 'Standard PC'), have(p.tdxGuest)], 'dstack-tdx'],
    ['no DMI', (p) => have(p.tdxGuest), 'dstack-tdx'],
    ['GCE', (p) => [have(p.productName, 'Google Compute Engine\n'), have(p.tdxGuest)], 'dstack-gcp-tdx'],
    ['SNP', (p) => have(p.sevGuest), 'dstack-amd-sev-snp'],
    ['TDX before SNP', (p) => [have(p.sevGuest), have(p.tdxGuest)], 'dstack-tdx'],
    ['EC2', (p) => [have(p.sysVendor, 'Amazon EC2'), have(p.tpm[1]!)], 'dstack-aws-nitro-tpm'],
  ])('%s', (_, prepare, mode) => {
    prepare(paths);
    expect(detectPlatform(paths)).toBe(mode);
  });

  test.each<[string, (p: PlatformPaths) => void]>([
    ['nothing', () => {}],
    ['GCE without TDX', (p) => [have(p.productName, 'Google Compute Engine'), have(p.sevGuest)]],
    ['EC2 without a TPM', (p) => have(p.sysVendor, 'Amazon EC2')],
  ])('refuses %s', (_, prepare) => {
    prepare(paths);
    expect(() => detectPlatform(paths)).toThrow(/No attestation hardware found/);
  });
});

describe('tdxLocations', () => {
  const none = '/nonexistent/tdx-attest.conf';

  test('prefers configfs and sysfs', () => {
    have(join(paths.tsmReports, 'x'));
    have(join(paths.rtmrs, 'x'));
    have(paths.ccel);
    expect(tdxLocations(paths, {}, none)).toEqual({
      tsm: paths.tsmReports,
      rtmr: paths.rtmrs,
      ccel: paths.ccel,
    });
  });

  test('falls back to the quote service and the ioctl', () => {
    const file = join(root, 'tdx-attest.conf');
    have(file, '# port=1\nport = 4050\n');
    expect(tdxLocations(paths, {}, file)).toEqual({ tsm: 'vsock:4050', rtmr: `ioctl:${paths.tdxGuest}` });
    expect(() => tdxLocations(paths, {}, none)).toThrow(/No way to a TDX quote/);
  });

  test('takes the entry that the environment names, or nothing', () => {
    have(join(root, 'entry', 'provider'));
    const variable = (path: string) => ({ DCAP_TDX_QUOTE_CONFIGFS_PATH: path });
    expect(tdxLocations(paths, variable(join(root, 'entry')), none).tsm).toBe(join(root, 'entry'));
    have(join(paths.tsmReports, 'x'));
    expect(() => tdxLocations(paths, variable(join(root, 'other')), none)).toThrow(/names no TSM/);
    expect(() => tdxLocations(paths, variable(`${root}/${'x'.repeat(240)}`), none)).toThrow(/names no TSM/);
  });

  test.each([
    ['port=1', 1],
    ['  port = 65536  ', 65_536],
    ['#port=4050', undefined],
    ['port=abc', undefined],
    ['port=0', undefined],
    ['port=99999999999', undefined],
    ['', undefined],
  ])('the line "%s"', (line, port) => {
    const file = join(root, 'conf');
    have(file, line);
    expect(quoteServicePort(file)).toBe(port);
  });
});
