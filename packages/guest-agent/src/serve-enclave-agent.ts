import { createEnclaveAgent, type EnclaveAgentOptions } from './agent/enclave-agent.ts';
import { createHandlers } from './http/handlers.ts';
import { startListeners } from './http/start-listeners.ts';
import type { Containers } from './machine/containers.ts';
import type { ServedAgent } from './serve-agent.ts';

/** An enclave has no containers that the agent could list. */
const NO_CONTAINERS: Containers = { list: async () => [], logs: async function* () {} };

/** Starts the agent of an enclave on its Unix sockets; nothing outside of the enclave reaches it. @throws GuestError, AppError */
export async function serveEnclaveAgent(options: EnclaveAgentOptions): Promise<ServedAgent> {
  const { agent, close } = await createEnclaveAgent(options);
  try {
    const handlers = createHandlers(agent, {
      containers: NO_CONTAINERS,
      notify: () => Promise.resolve(),
      powerOff: () => undefined,
    });
    const listeners = await startListeners(agent.config, handlers);
    // Makes Info complete as soon as somebody can ask for it.
    agent.demoCertificate.current();
    return {
      agent,
      addresses: listeners.addresses,
      close: async () => {
        await listeners.close();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}
