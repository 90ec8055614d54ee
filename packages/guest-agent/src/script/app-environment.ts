import { AGENT_SOCKETS } from '@dstack-cloud/app';

/** Variables of the machine that an application process may see. Nothing else of our own environment passes. */
const INHERITED = [
  ...['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'DSTACK_BIN_DIR'],
  // By this the host finds what is left of a machine whose supervisor was killed.
  'DSTACK_MACHINE_DIR',
];

/** The environment that every application process starts from. */
export function baseEnvironment(env: NodeJS.ProcessEnv): Record<string, string> {
  const entries = INHERITED.flatMap((name) => {
    const value = env[name];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ...Object.fromEntries(entries),
  };
}

/** Sockets of the agent as this machine has them. */
export interface AgentSockets {
  readonly dstack: string;
  readonly tappd: string;
}

/** Whether a volume's source is the agent's socket. */
export function agentSocketOf(source: string, sockets: AgentSockets): string | undefined {
  if (AGENT_SOCKETS.dstack.includes(source)) return sockets.dstack;
  return AGENT_SOCKETS.tappd.includes(source) ? sockets.tappd : undefined;
}

/**
 * Without a mount namespace a mounted socket cannot appear at its usual path, so the process is told where it is, by
 * the variables that the SDKs and our own programs read.
 */
export function socketVariables(
  volumeSources: readonly (string | undefined)[],
  sockets: AgentSockets,
): Record<string, string> {
  const mounted = volumeSources.map((source) => agentSocketOf(source ?? '', sockets));
  return {
    ...(mounted.includes(sockets.dstack)
      ? { DSTACK_SIMULATOR_ENDPOINT: sockets.dstack, DSTACK_AGENT_ADDRESS: `unix:${sockets.dstack}` }
      : {}),
    ...(mounted.includes(sockets.tappd) ? { TAPPD_SIMULATOR_ENDPOINT: sockets.tappd } : {}),
  };
}
