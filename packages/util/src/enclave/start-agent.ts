import { dirname, join } from 'node:path';
import { UtilError } from '../errors.ts';
import { dialKms } from '../keys/dial-kms.ts';
import { type Machine, openMachineDevice } from '../machine.ts';

/** What the agent is started with. */
interface AgentOptions {
  /** Undefined for no agent. */
  readonly agentSocket: string | undefined;
  readonly proxy: { readonly cid: number; readonly port: number };
  readonly appId: Uint8Array;
  readonly machine: Machine;
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Serves the guest agent to the program of the enclave, unless it is switched off: what SDKs ask for keys, certificates and
 * evidence.
 *
 * @throws UtilError
 */
export async function startAgent(
  { agentSocket: socket, proxy, appId, machine, env }: AgentOptions,
  keys: string,
): Promise<{ close(): Promise<void> }[]> {
  if (socket === undefined) return [];
  // Loaded while nothing waits for keys any more.
  const { createLogger, serveEnclaveAgent } = await import('@dstack-cloud/guest-agent');
  const device = await openMachineDevice(machine);
  if (device.mode !== 'dstack-nitro-enclave') {
    await device.close?.();
    throw new UtilError(`The agent of an enclave cannot serve evidence of ${device.mode}: use --no-agent`);
  }
  const dial = dialKms(`${proxy.cid}:${proxy.port}`, env);
  const tappdSocket = join(dirname(socket), 'tappd.sock');
  const log = createLogger('dstack-guest-agent');
  return [await serveEnclaveAgent({ keys, appId, device, dial, socket, tappdSocket, log })];
}
