import { mkdir } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { HOST_SHARED_LIMITS, parseSysConfig, readFileBounded } from '@dstack-cloud/app';
import { newKeyPair } from '@dstack-cloud/wireguard';
import type { Agent } from '../agent/agent.ts';
import { GuestError } from '../errors.ts';
import type { NotifyHost } from '../host/host-api.ts';
import { hostSharedCopy } from '../host/host-shared.ts';
import { allowedGateways } from './allowed-gateways.ts';
import { clientIdentity } from './client-identity.ts';
import { keepRegistered } from './keep-registered.ts';
import { registerAt } from './register-at.ts';
import { createTunnel, type TunnelOptions } from './tunnel.ts';
import { type PlanRules, tunnelPlan } from './tunnel-plan.ts';

const INTERFACE = 'dstack-wg0';

/** Where the tunnel is, when it is not of this machine as it is. */
export type TunnelPlace = Pick<TunnelOptions, 'interfaceName' | 'driver' | 'namespace'> &
  Pick<PlanRules, 'localNetworks'>;

/**
 * Keeps the machine reachable through a gateway, if its application asks for that. Nothing of it is kept on a disk: after a
 * restart there is a new key, and the same address.
 *
 * @returns ends the tunnel; undefined when the application asks for none
 */
export async function startGatewayClient(
  agent: Agent,
  notify: NotifyHost,
  place?: TunnelPlace,
): Promise<(() => Promise<void>) | undefined> {
  const { compose, log, config } = agent;
  if (!compose.gatewayEnabled) return undefined;
  try {
    return await start(agent, notify, place);
  } catch (error) {
    if (!(error instanceof GuestError && error.code === 'gateway-misconfigured')) throw error;
    // Trying again changes nothing; the application runs, and is told to the host as one without a route.
    log.error({ error: error.message, work_dir: config.workDir }, 'The machine has no route by a gateway');
    await notify('boot.error', `no route by a gateway: ${error.message}`);
    return undefined;
  }
}

async function start(
  agent: Agent,
  notify: NotifyHost,
  place: TunnelPlace | undefined,
): Promise<() => Promise<void>> {
  const { keys, compose, config, log } = agent;
  const sysFile = join(hostSharedCopy(config.workDir), '.sys-config.json');
  const { gatewayUrls } = parseSysConfig(
    await readFileBounded(sysFile, HOST_SHARED_LIMITS['.sys-config.json']),
  );
  if (gatewayUrls.length === 0)
    throw new GuestError(
      'gateway-misconfigured',
      'Missing gateway urls: .sys-config.json has no gateway_urls',
    );
  const allowed = allowedGateways(keys.gatewayAppId);
  if (allowed === 'any')
    log.warn('The key service allows any gateway: who answers at its address sees the traffic of users');
  const { privateKey, publicKey } = newKeyPair();
  const folder = join(config.runDir, 'dstack-gateway');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { localNetworks, ...where } = place ?? { interfaceName: INTERFACE, localNetworks: undefined };
  const tunnel = createTunnel({ ...where, privateKey, folder });
  const identity = clientIdentity(agent);
  const { ports, restrictMode } = compose.portPolicy;
  const request = { clientPublicKey: publicKey, portPolicy: { ports: [...ports], restrictMode } };
  const stop = new AbortController();
  const ended = keepRegistered(
    {
      urls: gatewayUrls,
      register: async (url) => {
        const answer = await registerAt({ url, allowed, caCert: keys.caCert, identity, request });
        return tunnelPlan(answer, {
          ownPublicKey: publicKey,
          localNetworks: localNetworks ?? networksOutside(where.interfaceName),
        });
      },
      tunnel,
      notify,
      log,
    },
    stop.signal,
  );
  return async () => {
    stop.abort();
    await ended;
    await tunnel.close();
  };
}

/** Networks that the machine is in by its other interfaces. */
function networksOutside(tunnelName: string): PlanRules['localNetworks'] {
  return Object.entries(networkInterfaces())
    .filter(([name]) => name !== tunnelName)
    .flatMap(([, addresses = []]) => addresses)
    .filter(({ family }) => family === 'IPv4')
    .map(({ address, cidr }) => ({ address, prefix: Number(cidr?.split('/')[1] ?? 32) }));
}
