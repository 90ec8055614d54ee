import { VsockError } from './errors.ts';
import { hybridGuest, hybridHost } from './hybrid.ts';
import { kernelVsock } from './kernel.ts';
import { tcpVsock } from './tcp.ts';
import type { Vsock } from './vsock.ts';

const LOOPBACK = /^(?:127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1)$/;

/**
 * The transport that a text names: `kernel`, `host:PATH` and `guest:PATH` for the two sides of hybrid Unix sockets,
 * `tcp:ADDRESS` with a loopback address for tests.
 *
 * @throws VsockError `bad-address`
 */
export function openVsock(location: string): Vsock {
  if (location === 'kernel') return kernelVsock;
  const [, kind, rest = ''] = /^(host|guest|tcp):(.+)$/.exec(location) ?? [];
  if (kind === 'host') return hybridHost(rest);
  if (kind === 'guest') return hybridGuest(rest);
  if (kind === 'tcp' && LOOPBACK.test(rest)) return tcpVsock(rest);
  throw new VsockError('bad-address', `${JSON.stringify(location)} is not a vsock transport`, {
    expected: 'kernel, host:PATH, guest:PATH or tcp:127.0.0.1',
    found: location,
  });
}

/** `CID:PORT`. @throws VsockError `bad-address` */
export function parseVsockAddress(text: string): { readonly cid: number; readonly port: number } {
  const [, cid, port] = /^(\d{1,10}):(\d{1,10})$/.exec(text) ?? [];
  const address = { cid: Number(cid), port: Number(port) };
  // 2^32 - 1 stands for any (vsock(7)).
  if ([address.cid, address.port].every((value) => value < 0xffff_ffff)) return address;
  throw new VsockError('bad-address', `${JSON.stringify(text)} is not a vsock address`, {
    expected: 'CID:PORT, such as 3:3128',
    found: text,
  });
}
