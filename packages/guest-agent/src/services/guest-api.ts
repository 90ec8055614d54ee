import type { IncomingMessage } from 'node:http';
import { guestApi, implement, RpcError, type ServiceImplementation } from '@dstack-cloud/prpc';
import { errorChain } from '@dstack-cloud/runtime';
import type { Agent } from '../agent/agent.ts';
import { info } from '../agent/info.ts';
import type { NotifyHost } from '../host/host-api.ts';
import type { Containers, ReadLog } from '../machine/containers.ts';
import { networkInfo } from '../machine/network-info.ts';
import { systemInfo } from '../machine/system-info.ts';
import { VERSION } from '../version.ts';

/** What the host-facing service works with beside the agent. */
export interface GuestApiOptions {
  readonly containers: Containers;
  /** The machine's own journal, where it has one. */
  readonly journal?: ReadLog;
  readonly notify: NotifyHost;
  /** Ends the machine; the answer does not wait for it. */
  readonly powerOff: () => void;
}

/** Service `GuestApi`, for the machine's own host only (docs/protocol/host-shared.md section 7). */
export function guestApiService(
  agent: Agent,
  options: GuestApiOptions,
): ServiceImplementation<IncomingMessage> {
  return implement(guestApi.GuestApi)<IncomingMessage>({
    Info: async () => {
      const { appId, instanceId, appCert, tcbInfo, deviceId } = await info(agent, 'outside');
      return { version: VERSION, appId, instanceId, appCert, tcbInfo, deviceId };
    },
    SysInfo: () => systemInfo(agent.config.root, [agent.config.root, agent.config.dataDir]),
    NetworkInfo: () => networkInfo(),
    ListContainers: async () => {
      try {
        const list = await options.containers.list();
        return {
          containers: list.map(({ id, names, image, imageId, created, state, status }) => ({
            id,
            names: [...names],
            image,
            imageId,
            created: BigInt(created),
            state,
            status,
          })),
        };
      } catch (cause) {
        throw new RpcError(`Failed to connect to Docker: ${errorChain(cause)}`, {
          code: 'UNAVAILABLE',
          cause,
        });
      }
    },
    Shutdown: () => {
      void options.notify('shutdown.progress', 'powering off').then(options.powerOff);
    },
  });
}
