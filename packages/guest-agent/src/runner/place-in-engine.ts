import { posix } from 'node:path';
import { ENGINE_SOCKET } from '@dstack-cloud/app/compose-file';
import { agentSocketOf } from '../script/app-environment.ts';
import { machinePath, type ProcessFolders } from './place-service.ts';

/** What the kernel and the operating system show at the same place everywhere; nobody's data lies there. */
const OF_THE_SYSTEM =
  /^\/(?:(?:proc|sys|dev|cgroup)(?:\/|$)|lib\/modules(?:\/|$)|etc\/(?:localtime|timezone|os-release|ssl|ca-certificates|pki)(?:\/|$)|usr\/share\/(?:zoneinfo|ca-certificates)(?:\/|$))/;

/**
 * Where a path of the machine lies when its containers run in the engine of the host: the agent's sockets, then below
 * the machine's folder. Undefined for a path that stays: those below the compose file, the engine's socket, and those of
 * the system.
 */
export function placeInEngine(path: string, folders: ProcessFolders): string | undefined {
  const socket = agentSocketOf(path, folders.sockets);
  if (socket !== undefined) return socket;
  const whole = posix.resolve('/dstack', path);
  if (ENGINE_SOCKET.test(whole) || OF_THE_SYSTEM.test(whole)) return path === whole ? undefined : whole;
  const isBelow = !/^[/~]/.test(path) && /^\/dstack(?:\/|$)/.test(whole);
  return isBelow ? undefined : machinePath(path, folders);
}
