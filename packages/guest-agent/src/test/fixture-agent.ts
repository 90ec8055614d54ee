import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fixturePath } from '@dstack-cloud/test/fixtures';
import { pino } from 'pino';
import type { Agent } from '../agent/agent.ts';
import { createAgent } from '../agent/create-agent.ts';
import { parseGuestConfig } from '../config/guest-config.ts';
import { createHandlers } from '../http/handlers.ts';
import { startListeners } from '../http/start-listeners.ts';
import { applicationContainers } from '../machine/application-containers.ts';
import type { ReadLog } from '../machine/containers.ts';

/** Changes to the unchanged fixture identity. */
export interface FixtureAgentOptions {
  readonly patchReportData?: boolean;
  /** Text of another app-compose.json. */
  readonly compose?: string;
  /** Text of another appkeys.json. */
  readonly keys?: string;
  readonly dockerSocket?: string;
  /** A machine of its own has a journal. */
  readonly journal?: ReadLog;
  /** Address of the external listener; a Unix socket unless it is said. */
  readonly external?: string;
}

/** A running agent with the fixture's identity. */
export interface FixtureAgent {
  readonly directory: string;
  readonly agent: Agent;
  /** Addresses that are listened on, with the ports that were chosen. */
  readonly addresses: readonly string[];
  readonly sockets: Readonly<Record<'internal' | 'internal-v0' | 'external' | 'guest-api', string>>;
  stop(): Promise<void>;
}

/** Starts an agent on four Unix sockets, as the original's simulator. */
export async function startFixtureAgent(options: FixtureAgentOptions = {}): Promise<FixtureAgent> {
  const directory = mkdtempSync(join(tmpdir(), 'dstack-agent-'));
  const file = (name: string, text: string | undefined): string => {
    if (text === undefined) return fixturePath(`simulator/${name}`);
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const config = parseGuestConfig(
    JSON.stringify({
      root: directory,
      run_dir: directory,
      listen: {
        external: options.external ?? `unix:${directory}/external.sock`,
        guest_api: `unix:${directory}/guest.sock`,
      },
      simulator: {
        keys_file: file('appkeys.json', options.keys),
        compose_file: file('app-compose.json', options.compose),
        sys_config_file: fixturePath('simulator/sys-config.json'),
        attestation_file: fixturePath('simulator/attestation.bin'),
        patch_report_data: options.patchReportData ?? true,
      },
    }),
    directory,
  );
  const openDevice = () => Promise.reject(new Error('a fixture needs no device'));
  const { agent, close } = await createAgent({ config, openDevice, log: pino({ level: 'silent' }) });
  const handlers = createHandlers(agent, {
    containers: applicationContainers(
      directory,
      directory,
      options.dockerSocket ?? join(directory, 'docker.sock'),
    ),
    ...(options.journal === undefined ? {} : { journal: options.journal }),
    notify: () => Promise.resolve(),
    powerOff: () => undefined,
  });
  const listeners = await startListeners(config, handlers);
  agent.demoCertificate.current();
  return {
    directory,
    agent,
    addresses: listeners.addresses,
    sockets: {
      internal: config.listen.dstackSock,
      'internal-v0': config.listen.tappdSock,
      external: join(directory, 'external.sock'),
      'guest-api': join(directory, 'guest.sock'),
    },
    stop: async () => {
      await listeners.close();
      await close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
