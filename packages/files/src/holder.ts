import { readFileSync, readlinkSync } from 'node:fs';
import { isAlive, processIdentity } from './process-identity.ts';

/**
 * This process as part of a file name, `PID-START-NAMESPACE-BOOT`: what a killed process leaves behind says by itself
 * that nobody works on it any more.
 */
export function holderTag(): string {
  own ??= [process.pid, processIdentity(process.pid)?.start_time ?? '', pidNamespace(), bootId()].join('-');
  return own;
}

/** A regular expression source for what {@link holderTag} makes. */
export const HOLDER_TAG = '[0-9]{1,10}-[0-9]{0,20}-[0-9]{0,20}-[0-9a-f]{0,8}';

/** Whether the process of a tag lives; undefined when this process cannot see it (another container's). */
export function holderLives(tag: string): boolean | undefined {
  const [pid = '', start_time = '', namespace = '', boot = ''] = tag.split('-');
  const [, , ownNamespace = '', ownBoot = ''] = holderTag().split('-');
  if (boot !== ownBoot) return false;
  if (namespace !== ownNamespace) return undefined;
  return isAlive({ pid: Number(pid), start_time });
}

let own: string | undefined;

/** pid_namespaces(7): a process id says nothing outside of its namespace. */
function pidNamespace(): string {
  try {
    return /[0-9]+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '';
  } catch {
    return '';
  }
}

/** proc(5): random at each boot, so that ids of an earlier one are told from ours. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8);
  } catch {
    return '';
  }
}
