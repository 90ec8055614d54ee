import { expect, it } from 'vitest';
import { checkCall, checkMessage, findCall } from './compute/compute-schema.ts';
import { checkStorageCall } from './storage-schema.ts';

const at = (path: string) => new URL(path, 'http://127.0.0.1');
const ZONE = '/compute/v1/projects/p/zones/z';

it('knows the methods of Compute Engine by path, and no other ones', () => {
  expect(findCall('POST', `${ZONE}/instances`)).toEqual({
    name: 'Instances.Insert',
    path: { project: 'p', zone: 'z' },
  });
  expect(findCall('GET', `${ZONE}/instances/i/serialPort`).name).toBe('Instances.GetSerialPortOutput');
  expect(() => findCall('PUT', `${ZONE}/instances`)).toThrow('no method PUT');
});

it.each([
  ['an unknown field', { nam: 'x' }, 'Instance.nam: unknown field'],
  ['one further down', { disks: [{ boots: true }] }, 'disks[0].boots: unknown field'],
  ['a wrong enum', { confidentialInstanceConfig: { confidentialInstanceType: 'tdx' } }, 'must be one of'],
  ['a wrong type', { name: 1 }, 'must be text'],
  ['a 64-bit integer as a number', { disks: [{ diskSizeGb: 10 }] }, 'a whole number as text'],
  ['a list that is none', { disks: {} }, 'must be a list'],
  ['a label that is no text', { labels: { a: 1 } }, 'must be text'],
  ['nothing', { name: null }, 'must be text'],
])('refuses %s in an instance', (_name, value, message) => {
  expect(() => checkMessage('Instance', value, 'Instance')).toThrow(message);
});

it('refuses parameters that a method lacks, and misses those that it needs', () => {
  checkCall('GET', at(`${ZONE}/instances/i/serialPort?port=1&start=5`), undefined);
  expect(() => checkCall('GET', at(`${ZONE}/instances/i?verbose=1`), undefined)).toThrow('no parameter');
  expect(() => checkCall('GET', at(`${ZONE}/instances/i/serialPort?start=x`), undefined)).toThrow('number');
  expect(() => checkCall('POST', at(`${ZONE}/instances`), undefined)).toThrow('needs instanceResource');
  expect(() => checkCall('GET', at(`${ZONE}/instances`), {})).toThrow('takes no body');
  expect(() => checkCall('POST', at(`${ZONE}/instances/i/detachDisk`), undefined)).toThrow(
    'needs deviceName',
  );
});

it('does the same for Cloud Storage', () => {
  expect(checkStorageCall('GET', at('/storage/v1/b/x/o/a%2Fb'), undefined)).toEqual({
    name: 'Objects$Get',
    path: { bucket: 'x', object: 'a/b' },
  });
  checkStorageCall('POST', at('/upload/storage/v1/b/x/o?uploadType=resumable&name=y'), {
    metadata: { owner: 'me' },
  });
  checkStorageCall('POST', at('/storage/v1/b?project=p'), {
    name: 'x',
    iamConfiguration: { uniformBucketLevelAccess: { enabled: true }, publicAccessPrevention: 'enforced' },
  });
  const bucket = (body: unknown) => () => checkStorageCall('POST', at('/storage/v1/b?project=p'), body);
  expect(bucket({ nam: 'x' })).toThrow('unknown field');
  expect(bucket({ iamConfiguration: { uniformBucketLevelAccess: { enable: true } } })).toThrow('unknown');
  expect(bucket({ labels: { a: 1 } })).toThrow('must be a string');
  expect(() => checkStorageCall('POST', at('/storage/v1/b'), {})).toThrow('needs project');
  expect(() => checkStorageCall('GET', at('/storage/v1/b/x?all=1'), undefined)).toThrow('no parameter');
  expect(() => checkStorageCall('GET', at('/storage/v2/b/x'), undefined)).toThrow('no method');
});
