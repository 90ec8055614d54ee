import { utf8 } from '@dstack-cloud/encoding';
import { describe, expect, it } from 'vitest';
import { parseGuestConfig } from '../config/guest-config.ts';
import { simulatedRootFile } from '../config/simulated-roots.ts';
import { createLogger } from '../log.ts';
import { fakeHost } from '../test/fake-host.ts';
import { withTee } from './tee.ts';

const log = createLogger('test');
const config = (members: object = {}) =>
  parseGuestConfig(JSON.stringify({ root: '/', ...members }), '/etc/dstack');
const simulated = { simulated_tee: { endpoint: 'vsock:2:4051' } };
const cpuinfo = (flags: string) => ({
  '/proc/cpuinfo': utf8(`processor : 0\nflags\t\t: fpu ${flags} vme\n`),
});
const DEV = 'console=ttyS0 dstack.flavour=dev quiet';

describe('the TEE of a machine', () => {
  it('is its TDX hardware, also in a development image', async () => {
    const host = fakeHost({ commandLine: DEV, paths: ['/dev/tdx_guest'], content: cpuinfo('tdx_guest') });
    const found = await withTee(config(simulated), host, log);
    expect(found.devices.tsm).toBe('/sys/kernel/config/tsm/report/com.intel.dcap');
    expect(found.tdxRootFile).toBeUndefined();
    expect(host.commands).toEqual([]);
  });

  it('has its driver loaded where the processor says that it is there', async () => {
    const host = fakeHost({ content: cpuinfo('tdx_guest') });
    await expect(withTee(config(), host, log)).rejects.toMatchObject({ code: 'tee-missing' });
    expect(host.commands).toEqual(['modprobe tdx_guest']);
    const broken = fakeHost({ content: cpuinfo('tdx_guest'), ran: () => 1 });
    await expect(withTee(config(simulated), broken, log)).rejects.toMatchObject({ code: 'disk-failed' });
  });

  it('is the host simulator in a development image without hardware, and its root is trusted then', async () => {
    const host = fakeHost({ commandLine: DEV, content: cpuinfo('') });
    const found = await withTee(config(simulated), host, log);
    expect(found.devices).toEqual({ tsm: 'vsock:2:4051', rtmr: 'vsock:2:4051', ccel: 'vsock:2:4051' });
    expect(found.tdxRootFile).toBe(simulatedRootFile(found));
  });

  it('is missing in a production image without hardware, whatever the command line says', async () => {
    for (const commandLine of ['', DEV])
      await expect(
        withTee(config(), fakeHost({ commandLine, content: cpuinfo('') }), log),
      ).rejects.toMatchObject({
        code: 'tee-missing',
      });
  });

  it.each(['', 'dstack.flavour=prod', 'xdstack.flavour=dev', 'dstack.flavour=devel'])(
    'is never simulated on the command line %j',
    async (commandLine) => {
      const host = fakeHost({ commandLine, content: cpuinfo('') });
      await expect(withTee(config(simulated), host, log)).rejects.toMatchObject({ code: 'config-invalid' });
    },
  );
});
