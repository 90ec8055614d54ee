import { toHex, utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { ratlsReportData, reportData } from './report-data.ts';

/** Type app-data, content `test content`; docs/protocol/evidence.md section 2. */
const BY_HASH: [string, string][] = [
  [
    'sha512',
    '7ea0b744ed5e9c0c83ff9f575668e1697652cd349f2027cdf26f918d4c53e8cd50b5ea9b449b4c3d50e20ae00ec29688d5a214e8daff8a10041f5d624dae8a01',
  ],
  ['sha256', '278fdb367382d9d10871ebb44498a29d54e705fa8924ce0a6fe8629542fc1a65'],
  [
    'sha384',
    '3967015e6798cc3d90f60b0a8dd045856e33273c4118dcdf04cc40a051ef8f3c008c73fb6e89d0af961c91a3a73efc5e',
  ],
  ['sha3-256', 'bb98d4376d590cb17968d89250ac8f3d6241c9267d74995121a60766d0a6c665'],
  ['keccak256', '71d9e489e5d4046e8c1a5ef5137a88d940c77db95de9a5eadcde469c4fc50c29'],
];

/** Content `hello`, sha512. */
const BY_TAG: [string, string][] = [
  [
    'kms-root-ca',
    '3aa73a024e7cc2e70b54c32de04156d5655d72ff3b394bd33277c817b984038a5a3d148b7ed133873f2a8086008592163aab4c7b52f624368dce6013ccf08383',
  ],
  [
    'ratls-cert',
    'c2629fa319fdf865ba0bdc17b6c0521fc2cc5e6434915ba9abe0d614a2441d1edef67c8087d44d1a1707e89e959ec815562a6f46458be0f47187e908e94a6e57',
  ],
  [
    'app-data',
    'e39fd3dbee991d65e65cc38c6e9d664324929816279a19b495bcd3f77a62d81949ba61282d8a732916d39bb9f6a6a16d11211c0d800b6ffc56ecf74419a7c835',
  ],
];

describe('report data', () => {
  it.each(BY_HASH)('%s', (hash, expected) => {
    const data = reportData({ tag: 'app-data', content: utf8('test content'), hash });
    expect(toHex(data)).toBe(expected.padEnd(128, '0'));
  });

  it.each(BY_TAG)('tag %s', (tag, expected) => {
    expect(toHex(reportData({ tag, content: utf8('hello') }))).toBe(expected);
    expect(toHex(reportData({ tag, content: utf8('hello'), hash: '' }))).toBe(expected);
  });

  it('derives that of an RA-TLS key', () => {
    expect(toHex(ratlsReportData(utf8('hello')))).toBe(BY_TAG[1]![1]);
  });

  it('takes raw content of 64 bytes only, and no other names', () => {
    const content = new Uint8Array(64).fill(7);
    expect(reportData({ tag: 'x', content, hash: 'raw' })).toEqual(content);
    expect(() => reportData({ tag: 'x', content: content.subarray(1), hash: 'raw' })).toThrow('64 bytes');
    expect(() => reportData({ tag: 'x', content, hash: 'md5' })).toThrow('Unknown hash');
    expect(() => reportData({ tag: 'x', content, hash: 'toString' })).toThrow('Unknown hash');
  });
});
