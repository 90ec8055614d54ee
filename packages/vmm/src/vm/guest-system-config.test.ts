import { parseSysConfig, serializeSysConfig } from '@dstack-cloud/app';
import { describe, expect, it } from 'vitest';
import { guestSystemConfig } from './guest-system-config.ts';

const source = (kmsUrls: readonly string[], pccsUrl?: string): Uint8Array =>
  serializeSysConfig({
    kmsUrls,
    gatewayUrls: [],
    pccsUrl,
    dockerRegistry: undefined,
    hostApiUrl: 'unix:/old',
    vmConfig: '{"old":1}',
  });
const facts = {
  hostApiUrl: 'vsock://2:10000/api',
  vmConfig: '{"spec_version":1}',
  dockerRegistry: 'http://localhost:5000',
  reachesLoopback: true,
};

describe('the configuration that a guest gets', () => {
  it('has the host’s loopback at the address of the NAT, and other addresses as they are', () => {
    const urls = [
      'https://127.0.0.1:12001',
      'http://localhost:8000/kms',
      'https://[::1]:1/',
      'https://kms.example',
    ];
    const config = parseSysConfig(guestSystemConfig(source(urls, 'http://127.3.0.1:8081/sgx'), facts));
    expect(config).toMatchObject({
      kmsUrls: [
        'https://10.0.2.2:12001',
        'http://10.0.2.2:8000/kms',
        'https://10.0.2.2:1/',
        'https://kms.example',
      ],
      pccsUrl: 'http://10.0.2.2:8081/sgx',
      dockerRegistry: 'http://10.0.2.2:5000',
      hostApiUrl: 'vsock://2:10000/api',
      vmConfig: '{"spec_version":1}',
    });
  });

  it('names no loopback that the guest cannot reach', () => {
    const bridged = { ...facts, dockerRegistry: null, reachesLoopback: false };
    expect(() => guestSystemConfig(source(['https://127.0.0.1:12001']), bridged)).toThrow(
      /network of mode user/,
    );
    expect(() => guestSystemConfig(source(['https://192.0.2.1']), bridged)).not.toThrow();
  });
});
