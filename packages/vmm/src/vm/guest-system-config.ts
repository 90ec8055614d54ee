import { parseSysConfig, serializeSysConfig } from '@dstack-cloud/app';
import { VmmError } from '../errors.ts';

/** The host's loopback as a guest behind QEMU's NAT sees it. */
const HOST_ALIAS = '10.0.2.2';
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** What the driver itself knows about the machine. */
interface GuestFacts {
  readonly hostApiUrl: string;
  /** JSON text. */
  readonly vmConfig: string;
  readonly dockerRegistry: string | null;
  /** Whether a network of mode user leads to the host's loopback. */
  readonly reachesLoopback: boolean;
}

/** `.sys-config.json` for the guest: services on the host's loopback get the address at which the guest finds them. */
export function guestSystemConfig(source: Uint8Array, facts: GuestFacts): Uint8Array {
  const config = parseSysConfig(source);
  const url = (text: string): string => seenByGuest(text, facts.reachesLoopback);
  return serializeSysConfig({
    kmsUrls: config.kmsUrls.map(url),
    gatewayUrls: config.gatewayUrls.map(url),
    pccsUrl: config.pccsUrl && url(config.pccsUrl),
    amdKdsUrl: config.amdKdsUrl && url(config.amdKdsUrl),
    dockerRegistry: facts.dockerRegistry === null ? config.dockerRegistry : url(facts.dockerRegistry),
    hostApiUrl: facts.hostApiUrl,
    vmConfig: facts.vmConfig,
  });
}

function seenByGuest(text: string, reachesLoopback: boolean): string {
  if (!URL.canParse(text)) return text;
  const url = new URL(text);
  if (!LOOPBACK.test(url.hostname)) return text;
  if (!reachesLoopback)
    throw new VmmError(
      'bad_option',
      `${url.origin} is this host’s loopback, which a guest reaches through a network of mode user alone: add one, or name an address of the bridge`,
      { expected: 'an address that the guest reaches', found: url.host },
    );
  url.hostname = HOST_ALIAS;
  // As it was written: a URL object adds the slash that a base does without.
  return text.endsWith('/') ? url.href : url.href.replace(/\/$/, '');
}
