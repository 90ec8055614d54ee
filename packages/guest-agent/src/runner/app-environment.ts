/** Variables of the machine that an application process may see. Nothing else of our own environment passes. */
const INHERITED = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR', 'DSTACK_BIN_DIR'];

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

const DSTACK_SOURCES = ['/var/run/dstack.sock', '/run/dstack.sock', '/var/run/dstack/dstack.sock'];
const TAPPD_SOURCES = ['/var/run/tappd.sock', '/run/tappd.sock', '/var/run/dstack/tappd.sock'];

/** Whether a volume's source is the agent's socket; applications write any of the documented paths. */
export function agentSocketOf(source: string, sockets: AgentSockets): string | undefined {
  if (DSTACK_SOURCES.includes(source)) return sockets.dstack;
  return TAPPD_SOURCES.includes(source) ? sockets.tappd : undefined;
}

/**
 * Without a mount namespace a mounted socket cannot appear at its usual path, so the process is told where it is, by
 * the variables that the SDKs and our own programs read.
 */
export function socketVariables(
  volumeSources: readonly string[],
  sockets: AgentSockets,
): Record<string, string> {
  const mounted = volumeSources.map((source) => agentSocketOf(source, sockets));
  return {
    ...(mounted.includes(sockets.dstack)
      ? { DSTACK_SIMULATOR_ENDPOINT: sockets.dstack, DSTACK_AGENT_ADDRESS: `unix:${sockets.dstack}` }
      : {}),
    ...(mounted.includes(sockets.tappd) ? { TAPPD_SIMULATOR_ENDPOINT: sockets.tappd } : {}),
  };
}
