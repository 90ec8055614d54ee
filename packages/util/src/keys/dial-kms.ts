import type { Duplex } from 'node:stream';
import type { Dial } from '@dstack-cloud/ra-tls';
import {
  connectTcp,
  connectTunnel,
  openVsock,
  parseVsockAddress,
  proxyFor,
  type Vsock,
} from '@dstack-cloud/vsock';

/**
 * The way to a KMS: through the proxy at a vsock address, through the proxy that the environment names, else directly. A
 * proxy sees the name of the KMS and bytes of TLS.
 *
 * @param proxy `CID:PORT`
 * @throws VsockError `bad-address`
 */
export function dialKms(
  proxy: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
  vsock: Vsock = openVsock(env['DSTACK_VSOCK'] || 'kernel'),
): Dial {
  const address = proxy === undefined ? undefined : parseVsockAddress(proxy);
  return async (host, port): Promise<Duplex> => {
    if (address !== undefined) {
      const stream = await vsock.connect(address.cid, address.port);
      await connectTunnel(stream, host, port);
      return stream;
    }
    const http = proxyFor(host, env);
    if (http === undefined) return await connectTcp(host, port);
    const stream = await connectTcp(http.host, http.port);
    await connectTunnel(stream, host, port);
    return stream;
  };
}
