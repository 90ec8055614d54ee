import type { PortPolicy } from '../routes/instance.ts';
import { RegisterError } from './register-error.ts';

const MAX_PORTS = 1_024;

/** The policy that a guest states. @throws RegisterError `invalid` for more ports than fit, or one that is none */
export function portPolicyOf(
  ports: readonly { readonly port: number; readonly pp: boolean }[],
  restrict: boolean,
): PortPolicy {
  if (ports.length > MAX_PORTS)
    throw new RegisterError('invalid', `port_policy names more than ${MAX_PORTS} ports`);
  const wrong = ports.find(({ port }) => port < 1 || port > 65_535);
  if (wrong !== undefined)
    throw new RegisterError('invalid', `port_policy names port ${wrong.port}; ports are 1 to 65535`);
  return { ports: ports.map(({ port, pp }) => ({ port, proxyProtocol: pp })), restrict };
}
