import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { VmmError } from '../errors.ts';
import type { Acceleration } from './qemu-arguments.ts';

const KVM = '/dev/kvm';
/** With hardware acceleration the kernel panics for want of a root file system within a second or two. */
const PROBE_MS = 15_000;
/** What QEMU prints when the kernel gives up on a guest; the guest then stands still for ever. */
const STUCK = /KVM internal error|emulation failure|Failed to retrieve host CPU features/;

/** How a machine runs, and why not faster. */
export interface ChosenAcceleration {
  readonly acceleration: Acceleration;
  /** Null with KVM. */
  readonly noKvm: string | null;
}

/**
 * KVM where a guest really runs with it: a device that opens is not enough, for in a virtual machine without nested
 * virtualisation guests may hang at the first instruction that the kernel has to emulate.
 *
 * @throws VmmError `bad_option` when KVM was demanded
 */
export async function chooseAcceleration(
  wanted: 'auto' | Acceleration,
  qemu: string,
  kernel: string,
): Promise<ChosenAcceleration> {
  if (wanted === 'tcg') return { acceleration: 'tcg', noKvm: 'not wanted' };
  const noKvm = whyClosed() ?? (await whyStuck(qemu, kernel));
  if (noKvm === undefined) return { acceleration: 'kvm', noKvm: null };
  if (wanted === 'kvm')
    throw new VmmError('bad_option', `KVM does not work on this host: ${noKvm}`, {
      expected: 'a guest that runs with KVM',
      found: noKvm,
    });
  return { acceleration: 'tcg', noKvm };
}

function whyClosed(): string | undefined {
  try {
    accessSync(KVM, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const isAbsent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    return isAbsent ? `there is no ${KVM}` : `this user may not open ${KVM} (group kvm)`;
  }
}

/** Boots the kernel without anything to mount: it panics and reboots, which ends QEMU. */
async function whyStuck(qemu: string, kernel: string): Promise<string | undefined> {
  const child = spawn(
    qemu,
    [
      ...['-accel', 'kvm', '-cpu', 'host', '-machine', 'q35,kernel-irqchip=split,hpet=off', '-m', '256M'],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
      ...['-kernel', kernel, '-append', 'panic=-1 quiet'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  return await new Promise((resolve) => {
    let text = '';
    const end = (why: string | undefined): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      resolve(why);
    };
    const timer = setTimeout(
      () => end(`a guest did not get through its kernel in ${PROBE_MS / 1000} s`),
      PROBE_MS,
    );
    child.stderr.on('data', (chunk: Buffer) => {
      text = `${text}${chunk.toString('utf8')}`.slice(-4096);
      if (STUCK.test(text)) end('a guest hangs with it');
    });
    child.once('error', (error) => end(error.message));
    child.once('exit', (code) =>
      end(code === 0 ? undefined : text.trim().split('\n').at(-1) || `exit ${code}`),
    );
  });
}
