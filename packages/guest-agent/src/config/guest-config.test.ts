import { describe, expect, it } from 'vitest';
import { parseGuestConfig } from './guest-config.ts';

const parse = (value: unknown) => parseGuestConfig(JSON.stringify(value), '/etc/dstack');

describe('guest configuration', () => {
  it('without members it is a real machine', () => {
    expect(parse({})).toMatchObject({
      workDir: '/dstack',
      runDir: '/run',
      eventLog: '/run/log/dstack/runtime_events.log',
      devices: {
        tsm: '/sys/kernel/config/tsm/report/com.intel.dcap',
        ccel: '/sys/firmware/acpi/tables/data/CCEL',
      },
      listen: { dstackSock: '/run/dstack.sock', external: '0.0.0.0:8090', guestApi: undefined },
      requireKmsAttestation: true,
      tdxRootFile: undefined,
    });
  });
  it('a directory can stand for the machine; paths are relative to the file', () => {
    const config = parse({
      root: 'm',
      devices: { tsm: 'unix:t.sock', rtmr: 'unix:/t.sock', ccel: 'unix:t.sock' },
    });
    expect(config.workDir).toBe('/etc/dstack/m/dstack');
    expect(config.devices).toEqual({
      tsm: 'unix:/etc/dstack/t.sock',
      rtmr: 'unix:/t.sock',
      ccel: 'unix:/etc/dstack/t.sock',
    });
  });
  it('no external listener when it is null', () => {
    expect(parse({ listen: { external: null } }).listen.external).toBeUndefined();
  });
  it.each([
    [
      { require_kms_atestation: false },
      /require_kms_atestation is unknown; did you mean require_kms_attestation\?/,
    ],
    [{ listen: { dstack_socket: '/x' } }, /listen.dstack_socket is unknown; did you mean dstack_sock\?/],
    [{ zzzzz: 1 }, /zzzzz is unknown$/],
    [{ runner: { engine: 'lxc' } }, /runner.engine/],
    [{ require_kms_attestation: 'no' }, /require_kms_attestation/],
    [{ devices: { tsm: '/x' } }, /devices.rtmr/],
  ])('refuses %j', (value, message) => {
    expect(() => parse(value)).toThrow(message);
  });
  it('refuses what is no JSON', () => {
    expect(() => parseGuestConfig('{', '/')).toThrow(expect.objectContaining({ code: 'config-invalid' }));
  });
});
