import { spawn } from 'node:child_process';
import { printableMessage } from '@dstack-cloud/encoding';
import type { Agent } from './agent/agent.ts';
import { createAgent } from './agent/create-agent.ts';
import type { GuestConfig } from './config/guest-config.ts';
import { hostNotifier } from './host/host-api.ts';
import { createHandlers } from './http/handlers.ts';
import { startListeners } from './http/start-listeners.ts';
import type { Logger } from './log.ts';
import { applicationContainers, dockerSocketPath } from './machine/application-containers.ts';
import { readJournal } from './machine/read-journal.ts';
import { openConfiguredDevice } from './open-device.ts';

/** A guest agent that serves. */
export interface ServedAgent {
  readonly agent: Agent;
  readonly addresses: readonly string[];
  close(): Promise<void>;
}

/** Starts the agent of a prepared machine. @throws GuestError, AppError */
export async function serveAgent(config: GuestConfig, log: Logger): Promise<ServedAgent> {
  const openDevice = (vmConfig: () => string) => openConfiguredDevice(config, vmConfig);
  const { agent, close } = await createAgent({ config, openDevice, log });
  const handlers = createHandlers(agent, {
    containers: applicationContainers(
      config.runDir,
      config.runner.logDir,
      dockerSocketPath({ ...process.env, ...config.runner.engineEnv }),
      config.root === '/' ? undefined : config.runner.project,
    ),
    ...(config.root === '/' ? { journal: readJournal } : {}),
    notify: hostNotifier(config.hostApiUrl, log),
    powerOff: () => powerOff(config.root),
  });
  const listeners = await startListeners(config, handlers);
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
}

/** Ends the machine: as its service manager does, or, where a directory stands for it, by ending the agent. */
function powerOff(root: string): void {
  if (root !== '/') {
    process.kill(process.pid, 'SIGTERM');
    return;
  }
  const child = spawn('systemctl', ['poweroff'], { stdio: 'ignore' });
  child.once('error', (error) =>
    process.stderr.write(`Cannot power off: ${printableMessage(error.message)}\n`),
  );
}
