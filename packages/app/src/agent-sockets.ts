/** Where applications expect the agent's sockets: any of the documented paths. */
export const AGENT_SOCKETS: Readonly<Record<'dstack' | 'tappd', readonly string[]>> = {
  dstack: [
    '/var/run/dstack.sock',
    '/run/dstack.sock',
    '/var/run/dstack/dstack.sock',
    '/run/dstack/dstack.sock',
  ],
  tappd: ['/var/run/tappd.sock', '/run/tappd.sock', '/var/run/dstack/tappd.sock', '/run/dstack/tappd.sock'],
};
